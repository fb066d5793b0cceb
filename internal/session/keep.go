package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// Attempts are spread evenly over zero to twice the interval (full jitter), so that many
	// clients of one broker do not come back together.
	initialInterval = 250 * time.Millisecond
	maxInterval     = 5 * time.Second
	// steady is how long a connection has to live, at most, for the next loss to start from the
	// initial interval again. One that came back sooner has to live as long as it was away.
	steady = 5 * time.Second
)

// NewBackOff is the one back-off of this project: exponential with full jitter, from 0 to 0.5 s
// at first to 0 to 10 s at last, without an end.
func NewBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = initialInterval
	b.MaxInterval = maxInterval
	b.Multiplier = 2
	b.RandomizationFactor = 1
	b.Reset()
	return b
}

// DialWithin dials until a session opens, at most for the given time. A refused login and an
// unusable URL end it at once: waiting does not mend them.
func DialWithin(ctx context.Context, config Config, within time.Duration) (*Session, error) {
	config = config.withDefaults()
	// A node that is silent must leave time for the others.
	config.DialTimeout = min(config.DialTimeout, within/time.Duration(max(len(config.URLs), 1)))
	deadline, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	delays := NewBackOff()
	var last error
	for {
		s, err := Dial(deadline, config)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, ErrURL) || errors.Is(err, ErrLogin) {
			return nil, err
		}
		if last == nil {
			config.Logger.Warn("broker does not answer yet; trying again",
				slog.Any("error", err), slog.Duration("at_most", within))
		}
		if last == nil || deadline.Err() == nil {
			last = err
		}
		if wait(deadline, delays.NextBackOff()) != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("no connection within %v: %w", within, last)
		}
	}
}

// Keep gives use the first session and, each time the connection is lost, a new one, dialled
// with back-off for as long as it takes.
//
// The context that use gets ends with its session. Keep returns nil when use does; ctx's error
// when ctx ends; and the error of use where the session was still alive, since then the fault
// is not the connection's. Every session is closed before the next is dialled.
func Keep(ctx context.Context, config Config, first *Session, use func(context.Context, *Session) error) error {
	config = config.withDefaults()
	delays := NewBackOff()
	var away time.Duration
	for s := first; ; {
		opened := time.Now()
		err := useOne(ctx, s, use)
		lost := s.Err()
		s.Close()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case lost == nil:
			return err
		}
		if time.Since(opened) > min(max(away, initialInterval), steady) {
			delays.Reset()
		}
		config.Logger.Warn("connection lost; connecting again", slog.String("broker", s.Addr()), slog.Any("error", lost))
		since := time.Now()
		if s, err = redial(ctx, config, delays); err != nil {
			return err
		}
		away = time.Since(since)
		config.Logger.Warn("connected again", slog.String("broker", s.Addr()), slog.Duration("away", away))
	}
}

func useOne(ctx context.Context, s *Session, use func(context.Context, *Session) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.life, func() { cancel(s.Err()) }) //nolint:contextcheck // the session's life is its own
	defer stop()
	return use(ctx, s)
}

// redial dials until it has a session. Nothing but the end of ctx ends it: also a refused login
// may be the doing of a broker that is just coming up again.
func redial(ctx context.Context, config Config, delays backoff.BackOff) (*Session, error) {
	var last string
	for {
		if err := wait(ctx, delays.NextBackOff()); err != nil {
			return nil, err
		}
		s, err := Dial(ctx, config)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if text := err.Error(); text != last {
			config.Logger.Warn("broker does not answer", slog.Any("error", err))
			last = text
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
