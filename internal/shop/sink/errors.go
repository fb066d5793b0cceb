package sink

import "errors"

var (
	// ErrInUse is wrapped where another process has the sink's files open: stop that one, or name other files.
	ErrInUse = errors.New("in use by another process: stop that one, or name another place")
	// ErrClosed is returned for what comes after Close.
	ErrClosed = errors.New("the sink is closed")
	// ErrNewer is wrapped where a newer version of this program has made the files: use that.
	ErrNewer = errors.New("made by a newer version of this program: use that one")
	// ErrDamaged is wrapped where files are not what was written: restore them from a backup, or begin anew without them.
	ErrDamaged = errors.New("damaged: restore it from a backup, or begin anew in an empty folder")

	// ErrNotJSON is wrapped for an event whose data is no JSON.
	ErrNotJSON = errors.New("its data is no JSON")
	// ErrTooLong is wrapped for an event with an attribute that is too long to be a key.
	ErrTooLong = errors.New("id, source, type and subject have 1024 bytes at most")
	// ErrData is wrapped for an event whose data is JSON, but not what its type has.
	ErrData = errors.New("its data is not what events of its type have")
	// ErrNoPosition is wrapped for an event that does not say where in the log it is.
	ErrNoPosition = errors.New("it has no position in the log: publish it from the event store")

	// ErrQuery is wrapped for a query that cannot be read.
	ErrQuery = errors.New("the query cannot be read: write words, or field:value" +
		" with the fields id, user, sku, status, amount, created and tracking")
)
