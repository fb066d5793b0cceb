package relay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/publisher"
)

// saveEvery is how long a checkpoint may be behind while less than half the window is confirmed.
const saveEvery = 100 * time.Millisecond

// Headers that say where in the store an event is.
const (
	HeaderStream   = "eventstore-stream"   // the stream, a string
	HeaderVersion  = "eventstore-version"  // the event's version in its stream, an integer: 1 is the first
	HeaderPosition = "eventstore-position" // the event's position in the log, an integer
)

// errRefused ends a pass: an event did not get through.
var errRefused = errors.New("an event did not get through")

// refusal is the event that did not, and was the first of them.
type refusal struct{ *EventError }

// pass is one go through the log, from a position until an event does not get through.
type pass struct {
	*Relay
	lease    *eventstore.Lease
	from     int64
	head     int64 // where the log ended when the relay became the active one
	progress *progress
	halt     context.CancelCauseFunc // ends the sending

	mu      sync.Mutex
	refused *EventError
}

func newPass(r *Relay, lease *eventstore.Lease, from, head int64) *pass {
	return &pass{Relay: r, lease: lease, from: from, head: head, progress: newProgress(r.config.Window, from)}
}

// run publishes until ctx ends, an event does not get through, or all is done; then it waits for the answers to what
// was sent and saves the checkpoint. Where the lease is lost it waits for nothing.
func (p *pass) run(ctx context.Context) error {
	sending, halt := context.WithCancelCause(ctx)
	defer halt(nil)
	p.halt = halt
	lasting, hurry, end := p.outlast(ctx)
	defer end()
	saver := p.startSaver(lasting, hurry)
	defer func() { _ = saver.finish() }() // after a panic in Config.To too
	if err := p.send(sending); err != nil && sending.Err() == nil {
		halt(err)
		hurry(err)
	}
	drained := p.progress.await(lasting)
	return p.conclude(ctx, context.Cause(sending), drained, saver.finish())
}

// outlast makes the context of what has to be finished once ctx has ended: it ends Config.DrainTimeout after that, or
// after hurry was called with the reason, and at once where that is the loss of the lease, or of the log.
func (p *pass) outlast(ctx context.Context) (lasting context.Context, hurry func(error), end func()) {
	lasting, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	limit := time.AfterFunc(time.Hour, func() { cancel(ErrDrainTimeout) })
	limit.Stop()
	start := sync.OnceFunc(func() { limit.Reset(p.config.DrainTimeout) })
	hurry = func(why error) {
		for _, end := range []error{eventstore.ErrLeaseLost, eventstore.ErrRewound} {
			if errors.Is(why, end) {
				cancel(end)
			}
		}
		start()
	}
	forget := context.AfterFunc(ctx, func() { hurry(context.Cause(ctx)) })
	var watcher sync.WaitGroup
	watcher.Go(func() { // also while it waits for answers after ctx has ended
		select {
		case <-p.lease.Lost():
			cancel(eventstore.ErrLeaseLost)
		case <-lasting.Done():
		}
	})
	return lasting, hurry, func() {
		forget()
		limit.Stop()
		cancel(nil)
		watcher.Wait()
	}
}

// conclude says how the pass has ended: what stopped the sending, whether all answers have come, and whether the
// checkpoint is saved.
func (p *pass) conclude(ctx context.Context, stopped, drained, saved error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	told := ctx.Err() != nil && errors.Is(stopped, context.Cause(ctx))
	refused := errors.Is(stopped, errRefused)
	_, unpublishable := errors.AsType[*EventError](stopped)
	switch {
	case errors.Is(errors.Join(stopped, drained, saved), eventstore.ErrLeaseLost):
		return eventstore.ErrLeaseLost
	case saved != nil:
		return fmt.Errorf("save checkpoint: %w", saved)
	case drained != nil && (told || refused):
		return drained
	case p.refused != nil && (refused || unpublishable): // which comes first
		return &refusal{p.refused}
	default:
		return stopped
	}
}

// send sends what is in the log.
func (p *pass) send(ctx context.Context) error {
	for r, err := range p.events(ctx) {
		if err == nil {
			err = p.publish(ctx, &r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pass) events(ctx context.Context) iter.Seq2[eventstore.Recorded, error] {
	switch {
	case !p.config.CatchUp:
		return p.config.Store.Follow(ctx, eventstore.Query{After: p.from})
	case p.from < p.head:
		return p.config.Store.Read(ctx, eventstore.Query{After: p.from, Through: p.head})
	default:
		return func(func(eventstore.Recorded, error) bool) {}
	}
}

// publish sends an event, as soon as the window has room, or passes over it.
func (p *pass) publish(ctx context.Context, r *eventstore.Recorded) error {
	m, err := p.message(r)
	if errors.Is(err, ErrSkip) {
		p.counts.skip(r.Position)
		p.progress.skip(r.Position)
		return nil
	}
	if err != nil {
		return newEventError(r, err)
	}
	n, err := p.progress.begin(ctx, r.Position)
	if err != nil {
		return err
	}
	position, stream, version := r.Position, r.Stream, r.Version
	err = p.config.Publisher.Send(ctx, m, func(result publisher.Result) {
		p.answer(n, &result, position, stream, version)
	})
	if err != nil {
		p.progress.takeBack()
		if errors.Is(err, publisher.ErrInvalid) {
			err = newEventError(r, err)
		}
		return err
	}
	if !p.retries(r.Position) {
		p.counts.sent(r.Position)
	}
	return nil
}

// message makes the message of an event, or gives ErrSkip.
func (p *pass) message(r *eventstore.Recorded) (publisher.Message, error) {
	if !p.wants(r) {
		return publisher.Message{}, ErrSkip
	}
	to, err := p.config.To(*r)
	if err == nil && to == (publisher.Destination{}) {
		err = errNowhere
	}
	return publisher.Message{Event: r.Event, To: to, Headers: Headers(r)}, err
}

// Headers are those with which a relay publishes an event.
func Headers(r *eventstore.Recorded) map[string]any {
	return map[string]any{HeaderStream: r.Stream, HeaderVersion: r.Version, HeaderPosition: r.Position}
}

// answer takes the broker's answer to event n.
func (p *pass) answer(n int64, result *publisher.Result, position int64, stream string, version int64) {
	p.counts.answered(result.Outcome)
	confirmed := result.Outcome == publisher.Confirmed
	if !confirmed {
		p.refuse(&EventError{Position: position, Stream: stream, Version: version, ID: result.Message.Event.ID, Err: &publisher.OutcomeError{
			ID: result.Message.Event.ID, Outcome: result.Outcome, Err: result.Err,
		}})
	}
	p.progress.answer(n, confirmed)
}

// refuse ends the pass. Answers may come in any order, and the first event is the one that counts.
func (p *pass) refuse(event *EventError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused == nil || event.Position < p.refused.Position {
		p.refused = event
	}
	p.halt(errRefused)
}

// saver saves the checkpoint of a pass beside the sending.
type saver struct {
	*pass
	ctx   context.Context //nolint:containedctx // outlives the sending
	saved eventstore.Checkpoint
	hurry func(error)
	over  chan struct{} // closed when nothing more is sent, and nothing waited for
	ended chan error

	finished sync.Once
	err      error
}

func (p *pass) startSaver(ctx context.Context, hurry func(error)) *saver {
	from := eventstore.Checkpoint{Version: formatVersion, Position: p.from}
	s := &saver{pass: p, ctx: ctx, saved: from, hurry: hurry, over: make(chan struct{}), ended: make(chan error, 1)}
	go func() { s.ended <- s.run() }()
	return s
}

// finish saves the last checkpoint and ends the saver.
func (s *saver) finish() error {
	s.finished.Do(func() {
		close(s.over)
		s.err = <-s.ended
	})
	return s.err
}

// run saves whenever half the window is confirmed, or some time has passed. Where that fails the sending ends.
func (s *saver) run() error {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		last := false
		select {
		case <-s.progress.due:
		case <-tick.C:
		case <-s.over:
			last = true
		}
		err := s.save()
		if err != nil && !last {
			s.halt(err)
			s.hurry(err)
			<-s.over
		}
		if err != nil || last {
			return err
		}
	}
}

func (s *saver) save() error {
	position, covers, ok := s.progress.unsaved()
	if !ok {
		return nil
	}
	if err := s.ctx.Err(); err != nil {
		return context.Cause(s.ctx)
	}
	to := eventstore.Checkpoint{Version: formatVersion, Position: position}
	err := s.lease.Advance(s.ctx, s.saved, to)
	if err != nil {
		if s.ctx.Err() != nil {
			err = context.Cause(s.ctx)
		}
		return err
	}
	s.saved = to
	s.progress.save(position, covers)
	s.goesOn()
	return nil
}
