package inbox

import (
	"errors"

	"github.com/evdemo/evdemo/worker/inbox/internal/attempt"
)

var (
	// ErrClosed is wrapped where the store has been closed.
	ErrClosed = attempt.ErrClosed
	// ErrNotInOnce is returned by Transact where its context does not come from Once, or the attempt
	// that it comes from has ended.
	ErrNotInOnce = attempt.ErrNotInOnce
	// ErrTransacted is returned by the second call of Transact in one attempt.
	ErrTransacted = attempt.ErrTransacted
	// ErrInTransact is returned by Once where it is called on the context of an attempt that is in
	// Transact: it would wait for itself.
	ErrInTransact = attempt.ErrInTransact
	// ErrSchema is wrapped by Open where a newer version of this package has made the tables.
	ErrSchema = attempt.ErrSchema
	// ErrTransactionLost is wrapped by what Transact returns where its function ended the transaction,
	// or went on after its context had ended in mid-write. Nothing of what it did remains.
	ErrTransactionLost = attempt.ErrTransactionLost

	// errPanicked stands for the outcome of a function that did not return.
	errPanicked = errors.New("function did not return")
)
