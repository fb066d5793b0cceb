package publisher

import (
	"context"
	"errors"
	"log/slog"

	"github.com/evdemo/evdemo/internal/session"
)

// line is the run loop's state: what survives from one connection, and from one channel, to the
// next. Only the run loop touches it.
type line struct {
	*Publisher
	aborted context.Context
	// backlog is on the wire no more and has no outcome; it goes first on the next channel.
	backlog []*pending
	// alone makes the next channel send the backlog one by one: the broker has closed a channel
	// for an event among them, and does not say which.
	alone    bool
	refused  refusals
	sessions int
}

// run keeps a connection and publishes until running ends; then it gives what is left the
// outcome Unknown.
func (p *Publisher) run(running context.Context, l *line, first *session.Session) {
	defer close(p.stopped)
	err := session.Keep(running, p.config.session(), first, l.use)
	if err != nil && !errors.Is(err, context.Canceled) {
		p.config.Logger.Error("publisher stops", slog.Any("error", err))
	}
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	close(p.queue)
	for _, e := range l.backlog {
		p.finish(e, Unknown, ErrUnconfirmed)
	}
	for e := range p.queue {
		p.finish(e, Unknown, ErrUnconfirmed)
	}
}

// use publishes over one session, on as many channels as it takes.
func (l *line) use(ctx context.Context, s *session.Session) error {
	defer context.AfterFunc(l.aborted, s.Abort)() //nolint:contextcheck // Close aborts, not the session's end
	l.refused = refusals{}
	l.connected.Store(true)
	defer l.connected.Store(false)
	if l.sessions++; l.sessions > 1 {
		l.counts.reconnects.Add(1)
		l.declare(ctx, s)
	}
	for ctx.Err() == nil {
		reply, err := l.useChannel(ctx, s)
		if ended := s.Err(); ended != nil {
			l.alone = isRefusal(reply)
			return ended
		}
		if err != nil {
			s.Abort() // a connection that opens no channel is of no use: dial again
			return err
		}
		if l.alone = isRefusal(reply); l.alone && isNotFound(reply) {
			l.declare(ctx, s)
		}
	}
	return ctx.Err()
}

// declare declares what the publisher was told to, again. A failure is logged and no more: what
// cannot be routed comes back with an outcome of its own.
func (l *line) declare(ctx context.Context, s *session.Session) {
	if err := l.config.Declare.Apply(ctx, s); err != nil && ctx.Err() == nil {
		l.config.Logger.Warn("cannot declare what is published to", slog.Any("error", err))
	}
}
