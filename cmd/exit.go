package cmd

import (
	"errors"
	"fmt"

	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/topology"
)

// The exit codes, as documented in every command's help.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2 // wrong usage or invalid input; nothing was sent
	exitIncomplete  = 3 // some events did not get through; the report names them
	exitUnreachable = 4 // the broker cannot be reached, or refuses the login
	exitClaim       = 5 // a claim did not hold
)

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// reportedError marks an error whose text a report has given already.
type reportedError struct{ err error }

func (e *reportedError) Error() string { return e.err.Error() }
func (e *reportedError) Unwrap() error { return e.err }

func usageError(err error) error { return &exitError{exitUsage, err} }

func usageErrorf(format string, args ...any) error { return usageError(fmt.Errorf(format, args...)) }

// exitCode maps an error to the exit code. It is the only place that does.
func exitCode(err error) int {
	var own *exitError
	var names *topology.InvalidError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &own):
		return own.code
	case errors.Is(err, session.ErrURL), errors.As(err, &names):
		return exitUsage
	case errors.Is(err, session.ErrUnreachable), errors.Is(err, session.ErrLogin):
		return exitUnreachable
	default:
		return exitFailed
	}
}
