//go:build !linux

package eventstore_test

import (
	"context"
	"errors"
)

func onSmallDisk(context.Context, string) error { return errors.New("this is for Linux") }
