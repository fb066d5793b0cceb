//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package chaos

import (
	"context"
	"syscall"
)

// canRun tells whether this operating system has what is needed.
const canRun = false

const (
	sigFreeze = syscall.SIGTERM
	sigThaw   = syscall.SIGTERM
)

type leash struct{}

func tie(context.Context) (*leash, error) { return nil, ErrSystem }

func (*leash) member() *syscall.SysProcAttr { return nil }

func (*leash) untie() {}
