//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package child

import (
	"context"
	"syscall"
)

// Possible tells whether this operating system has what is needed.
const Possible = false

const (
	sigFreeze = syscall.SIGTERM
	sigThaw   = syscall.SIGTERM
)

// Group is a group of processes that there is not on this operating system.
type Group struct{}

// NewGroup returns ErrSystem.
func NewGroup(context.Context) (*Group, error) { return nil, ErrSystem }

// ID is the group's number.
func (*Group) ID() int { return 0 }

func (*Group) member() *syscall.SysProcAttr { return nil }

// Close ends the group.
func (*Group) Close() {}
