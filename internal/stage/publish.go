package stage

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"sync"

	"golang.org/x/time/rate"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/ledger"
	"github.com/evdemo/evdemo/publisher"
)

// Event makes an event. A type and a source that are valid are the scenario's to give.
func (s *Stage) Event(eventType, subject string, data any) event.Event {
	e, err := event.New(eventType, "demo", data)
	if err != nil {
		panic(err) // a mistake in a scenario, which its test would find
	}
	e.Subject = subject
	return e
}

// Publish publishes events from this process, confirmed, and enters each attempt and outcome into a ledger. PerSecond is how
// many; 0: as fast as they go. An outcome other than confirmed is no error: the ledger has it.
func (s *Stage) Publish(ctx context.Context, book *ledger.Ledger, to publisher.Destination, perSecond float64, events ...event.Event) (err error) {
	if s.publisher == nil {
		p, err := publisher.Open(ctx, publisher.Config{
			URLs: s.urls, TLS: s.run.TLS, ConnectTimeout: s.run.ConnectTimeout, ConnectionName: "evdemo demo", Logger: s.run.Logger,
		})
		if err != nil {
			return err
		}
		s.publisher = p
		s.OnClose(func(ctx context.Context) error { return ignoreUnconfirmed(p.Close(ctx)) })
	}
	limit := rate.NewLimiter(rate.Inf, 1)
	if perSecond > 0 {
		limit = rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond/100)))
	}
	var answered sync.WaitGroup
	defer func() {
		all := make(chan struct{})
		go func() { defer close(all); answered.Wait() }() // at the latest when the publisher is closed with the stage
		select {
		case <-all:
		case <-ctx.Done():
			err = cmp.Or(err, context.Cause(ctx))
		}
	}()
	for _, e := range events {
		if err := limit.Wait(ctx); err != nil {
			return err
		}
		book.Attempt(e.ID)
		answered.Add(1)
		err := s.publisher.Send(ctx, publisher.Message{Event: e, To: to}, func(r publisher.Result) {
			book.Outcome(r.Message.ID(), r.Outcome.String())
			answered.Done()
		})
		if err != nil {
			answered.Done()
			return err
		}
	}
	return nil
}

// ignoreUnconfirmed drops the error of events that were not confirmed when the stage ended: the ledger has them.
func ignoreUnconfirmed(err error) error {
	if errors.Is(err, publisher.ErrUnconfirmed) {
		return nil
	}
	return err
}

// ID is the id of an event that a process has printed. What is no event has none, which a ledger finds.
func ID(line []byte) string {
	var e struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(line, &e)
	return e.ID
}
