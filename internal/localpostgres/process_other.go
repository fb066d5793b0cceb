//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package localpostgres

import (
	"context"
	"errors"
	"os"
	"syscall"
)

const canRun = false

func unprivileged() (*account, error)           { return nil, nil }
func runAs(*account) *syscall.SysProcAttr       { return nil }
func (*process) interrupt() error               { return errors.ErrUnsupported }
func killGroup(*os.Process) error               { return errors.ErrUnsupported }
func suspend(*os.Process) error                 { return errors.ErrUnsupported }
func processes(context.Context) ([]byte, error) { return nil, errors.ErrUnsupported }
