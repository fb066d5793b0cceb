package view

import "errors"

var (
	// ErrUnknown is returned where there is no such order, as far as the view has seen the log.
	ErrUnknown = errors.New("there is no such order")
	// ErrNotYet is returned by [Orders.AsOf] for a time at which the order was not there yet.
	ErrNotYet = errors.New("the order was not there yet")
	// ErrTooMany is returned by [Orders.Wait] where Config.MaxWaiting callers wait already.
	ErrTooMany = errors.New("too many are waiting already")
)
