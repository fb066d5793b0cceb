package attempt

import "errors"

// The errors that the stores have in common. Package inbox names them for its callers.
var (
	ErrClosed          = errors.New("inbox is closed")
	ErrNotInOnce       = errors.New("inbox: Transact belongs within Once, on the context that the handler got")
	ErrTransacted      = errors.New("inbox: Transact was called before in this attempt")
	ErrInTransact      = errors.New("inbox: Once was called within Transact")
	ErrSchema          = errors.New("made by a newer version of evdemo: use that")
	ErrTransactionLost = errors.New("inbox: the function ended its transaction")
)
