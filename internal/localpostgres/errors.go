package localpostgres

import (
	"errors"
	"strings"
)

var (
	// ErrNotInstalled is returned by [Start] where there is no PostgreSQL. The error that wraps it names
	// the command that installs it on this system.
	ErrNotInstalled = errors.New("PostgreSQL is not installed")

	// ErrRemoved is returned by [Server.Restart] where [Server.Stop] has removed the temporary directory.
	ErrRemoved = errors.New("the PostgreSQL server is removed")
)

// StartError says that the server did not come up.
type StartError struct {
	// Err is how initdb or the server ended, or the context's error if that came first.
	Err error
	// Log has the last lines that they wrote.
	Log []string
}

func (e *StartError) Error() string {
	return strings.Join(append([]string{"start PostgreSQL: " + e.Err.Error()}, e.Log...), "\n    ")
}

func (e *StartError) Unwrap() error { return e.Err }
