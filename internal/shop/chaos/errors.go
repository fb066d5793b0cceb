package chaos

import "errors"

var (
	// ErrUsed means that there are events in the event store, or things of another proof in the directory.
	ErrUsed = errors.New("a proof begins with nothing: name another directory, and an event store without events")
	// ErrStart is wrapped where a part of the shop does not start.
	ErrStart = errors.New("a part of the shop does not start")
	// ErrLeftBehind is wrapped where not everything that was made on a broker could be removed.
	ErrLeftBehind = errors.New("not removed")

	// errStalled is wrapped where nothing happens any more although not all has been done.
	errStalled = errors.New("the shop stands still")
)
