package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/evdemo/evdemo/publisher"
)

// Pump publishes everything that a source gives.
type Pump struct {
	// Publisher is where the events go. The pump closes it.
	Publisher *publisher.Publisher
	// To is where messages go that name no destination of their own.
	To publisher.Destination
	// Redirect sends the others to To as well.
	Redirect bool
	// Headers go with each message. They go before headers of the same name that it has itself.
	Headers map[string]any
	// Rate bounds the events per second. 0: no bound.
	Rate float64
	// DrainTimeout bounds the wait for outcomes once the context has ended. What has none then
	// is unknown.
	DrainTimeout time.Duration
	// Outcome, if set, is called for each result, by one goroutine at a time.
	Outcome func(publisher.Result)
	// Invalid, if set, is called for each line that is neither an event nor a record. Where it is
	// nil the first such line ends the pump.
	Invalid func(error)
}

// maxBurst bounds the events that a rate lets through at once, so that any rate is a number.
const maxBurst = 1e6

// Report is the account of a run: Sent = Confirmed + Returned + Nacked + Unknown.
type Report struct {
	Sent      int64   `json:"sent"`
	Confirmed int64   `json:"confirmed"`
	Returned  int64   `json:"returned"`
	Nacked    int64   `json:"nacked"`
	Unknown   int64   `json:"unknown"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	// Resent counts publishes repeated after a lost connection: each may be a duplicate.
	Resent int64 `json:"resent,omitempty"`
	// Invalid counts lines of a streamed input that were no events and were not sent.
	Invalid int64 `json:"invalid,omitempty"`
}

// Complete tells whether every event got through.
func (r Report) Complete() bool { return r.Confirmed == r.Sent && r.Invalid == 0 }

// Run publishes until the source or ctx ends, waits for every outcome, and closes the
// publisher. Then the report is exact. An error means that the source failed; what was sent
// before is in the report all the same.
func (p *Pump) Run(ctx context.Context, source Source) (Report, error) {
	began := time.Now()
	invalid, err := p.feed(ctx, source)
	if closeErr := p.close(ctx); closeErr != nil && !errors.Is(closeErr, context.DeadlineExceeded) {
		err = errors.Join(err, closeErr)
	}
	stats := p.Publisher.Stats()
	report := Report{
		Sent: stats.Sent, Confirmed: stats.Confirmed, Returned: stats.Returned,
		Nacked: stats.Nacked, Unknown: stats.Unknown, Resent: stats.Resent,
		Invalid: invalid, Seconds: time.Since(began).Seconds(),
	}
	if report.Seconds > 0 {
		report.PerSecond = float64(report.Confirmed) / report.Seconds
	}
	return report, err
}

// close waits for outcomes: for as long as it takes while ctx lasts, and for the drain timeout
// after its end.
func (p *Pump) close(ctx context.Context) error {
	draining, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(p.DrainTimeout, cancel) })
	defer stop()
	err := p.Publisher.Close(draining)
	if errors.Is(err, context.Canceled) {
		return context.DeadlineExceeded
	}
	return err
}

func (p *Pump) feed(ctx context.Context, source Source) (invalid int64, err error) {
	var limiter *rate.Limiter
	if p.Rate > 0 {
		limiter = rate.NewLimiter(rate.Limit(p.Rate), max(1, int(min(p.Rate/100, maxBurst))))
	}
	var done func(publisher.Result)
	if p.Outcome != nil {
		var mu sync.Mutex
		done = func(r publisher.Result) {
			mu.Lock()
			defer mu.Unlock()
			p.Outcome(r)
		}
	}
	for ctx.Err() == nil {
		m, err := source.Next()
		if errors.Is(err, io.EOF) {
			return invalid, nil
		}
		if err == nil && limiter != nil {
			err = limiter.Wait(ctx)
		}
		if err == nil {
			err = p.Publisher.Send(ctx, p.Prepare(m), done)
		}
		switch {
		case err == nil, ctx.Err() != nil:
		case p.Invalid != nil && isInvalid(err):
			invalid++
			p.Invalid(err)
		default:
			return invalid, fmt.Errorf("publish: %w", err)
		}
	}
	return invalid, nil
}

// Prepare gives a message of the source as it is sent: with its destination and all its headers.
func (p *Pump) Prepare(m publisher.Message) publisher.Message {
	if p.Redirect || m.To == (publisher.Destination{}) {
		m.To = p.To
	}
	m.Headers = merge(m.Headers, p.Headers)
	return m
}

func isInvalid(err error) bool {
	var line *LineError
	return errors.As(err, &line) || errors.Is(err, publisher.ErrInvalid)
}
