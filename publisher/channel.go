package publisher

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/internal/session"
)

// stallAfter is how long a confirm may take before somebody is told.
const stallAfter = 30 * time.Second

// channel publishes on one AMQP channel and pairs confirms and returns with events.
type channel struct {
	*line
	session *session.Session
	amqp    *amqp.Channel
	// returns has room for the whole window, so that the client's reader never waits for us.
	returns  <-chan amqp.Return
	returned map[int64]amqp.Return
	closed   <-chan *amqp.Error
	ended    bool        // closed has been read
	reply    *amqp.Error // what it gave
	sent     chan sent
	stall    *time.Timer
	left     []*pending // sent, and without an answer when the channel ended
}

// sent is an event that waits for its confirm, or one whose outcome is known already and only
// waits for its turn.
type sent struct {
	*pending
	confirm *amqp.DeferredConfirmation
	outcome Outcome
	err     error
}

// useChannel publishes until ctx, the channel or the connection ends. What has no outcome then
// is the line's backlog, in order. It returns what the broker said where it closed the channel.
func (l *line) useChannel(ctx context.Context, s *session.Session) (*amqp.Error, error) {
	c, err := l.openChannel(s)
	if err != nil {
		return nil, err
	}
	if l.alone && !c.sendAlone(ctx) {
		return c.ending(), nil
	}
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		c.collect()
	}()
	unsent := c.feed(ctx)
	close(c.sent)
	<-collected
	l.backlog = append(c.left, unsent...)
	return c.ending(), nil
}

func (l *line) openChannel(s *session.Session) (*channel, error) {
	ch, err := s.Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Confirm(false); err != nil {
		return nil, fmt.Errorf("ask for publisher confirms: %w", err)
	}
	stall := time.NewTimer(stallAfter)
	stall.Stop()
	return &channel{
		line: l, session: s, amqp: ch, stall: stall,
		returns:  ch.NotifyReturn(make(chan amqp.Return, l.config.Window+1)),
		returned: make(map[int64]amqp.Return),
		closed:   ch.NotifyClose(make(chan *amqp.Error, 1)),
		sent:     make(chan sent, l.config.Window),
	}, nil
}

// ending is what the broker said when it closed the channel; nil where it said nothing, and where
// the channel is open. An open channel is left to the session, which closes it with the
// connection: asking a blocked connection to close a channel gets no answer.
func (c *channel) ending() *amqp.Error {
	if !c.ended && c.amqp.IsClosed() {
		c.reply, c.ended = <-c.closed, true
	}
	return c.reply
}

// feed sends the backlog and then what comes, and gives back what it could not send.
func (c *channel) feed(ctx context.Context) (unsent []*pending) {
	for i, e := range c.backlog {
		if !c.transmit(ctx, e) {
			return c.backlog[i:]
		}
	}
	for {
		e := c.next(ctx)
		if e == nil {
			return nil
		}
		if !c.transmit(ctx, e) {
			return []*pending{e}
		}
	}
}

// next waits for an event to send; nil means that the channel is of no more use.
func (c *channel) next(ctx context.Context) *pending {
	select {
	case e := <-c.queue: // the usual case, at a third of the price of the select below
		return e
	default:
	}
	select {
	case e := <-c.queue:
		return e
	case <-ctx.Done():
		return nil
	case c.reply = <-c.closed:
		c.ended = true
		return nil
	}
}

// transmit puts one event on the wire. False means that the channel takes no more.
func (c *channel) transmit(ctx context.Context, e *pending) bool {
	if c.session.WaitUnblocked(ctx) != nil {
		return false
	}
	if outcome, err := c.refused.check(e.message.To, c.session); outcome != 0 {
		c.sent <- sent{pending: e, outcome: outcome, err: err}
		return true
	}
	confirm, err := c.publish(e)
	switch {
	case err == nil:
		c.sent <- sent{pending: e, confirm: confirm}
	case c.amqp.IsClosed() || c.session.Err() != nil:
		return false
	default: // the client itself cannot encode it
		c.sent <- sent{pending: e, outcome: Nacked, err: err}
	}
	return true
}

func (c *channel) publish(e *pending) (*amqp.DeferredConfirmation, error) {
	if e.attempts++; e.attempts > 1 {
		c.counts.resent.Add(1)
	}
	to := e.message.To
	return c.amqp.PublishWithDeferredConfirm(to.Exchange, to.RoutingKey, true, false, e.wire)
}

// sendAlone sends the backlog with one event on its way at a time, so that the event for which
// the broker closes the channel is known. False means that the channel has ended; the backlog
// is then without what has an outcome.
func (c *channel) sendAlone(ctx context.Context) bool {
	for len(c.backlog) > 0 {
		e := c.backlog[0]
		if c.session.WaitUnblocked(ctx) != nil {
			return false
		}
		if outcome, err := c.refused.check(e.message.To, c.session); outcome != 0 {
			c.finish(e, outcome, err)
		} else if confirm, err := c.publish(e); err != nil {
			return false
		} else if !c.settle(e, confirm) {
			reply := c.ending()
			if isRefusal(reply) {
				c.backlog = c.backlog[1:]
				c.finish(e, c.refused.add(e.message.To, reply), reply)
			}
			return false
		}
		c.backlog = c.backlog[1:]
	}
	c.alone = false
	return true
}

// collect gives each sent event its outcome, in the order of sending.
func (c *channel) collect() {
	for e := range c.sent {
		if e.confirm == nil {
			c.finish(e.pending, e.outcome, e.err)
		} else if !c.settle(e.pending, e.confirm) {
			c.left = append(c.left, e.pending)
		}
	}
}

// settle waits for the broker's answer to one event. False means that none came and none will:
// the channel has ended.
func (c *channel) settle(e *pending, confirm *amqp.DeferredConfirmation) bool {
	c.await(confirm)
	switch {
	case confirm.Acked():
		if r, ok := c.takeReturn(e); ok {
			c.finish(e, Returned, fmt.Errorf("%s: %s", e.message.To, r.ReplyText))
		} else {
			c.finish(e, Confirmed, nil)
		}
	case c.amqp.IsClosed():
		return false
	default:
		c.finish(e, Nacked, nil)
	}
	return true
}

// await waits for the broker's answer, and says so where it takes long: an event is not given up
// for that, since sending it again would not help a queue that has lost its majority.
func (c *channel) await(confirm *amqp.DeferredConfirmation) {
	select {
	case <-confirm.Done():
		return
	default:
	}
	c.stall.Reset(stallAfter)
	defer c.stall.Stop()
	for {
		select {
		case <-confirm.Done():
			return
		case <-c.stall.C:
			c.config.Logger.Warn("the broker has not answered a publish for a while; a queue may be without its leader or its majority",
				slog.Duration("for", stallAfter), slog.Int("unconfirmed", len(c.slots)))
		}
	}
}

// takeReturn finds the return that belongs to a confirmed event. The broker sends the return
// before the confirm, and the client's reader puts both through in that order, so once the
// confirm is here a return can only be in the buffer.
func (c *channel) takeReturn(e *pending) (amqp.Return, bool) {
	for len(c.returns) > 0 {
		r, ok := <-c.returns
		if !ok {
			break
		}
		if sequence, ok := r.Headers[headerSequence].(int64); ok {
			c.returned[sequence] = r
		}
	}
	if len(c.returned) == 0 {
		return amqp.Return{}, false
	}
	sequence, _ := e.wire.Headers[headerSequence].(int64)
	r, ok := c.returned[sequence]
	delete(c.returned, sequence)
	return r, ok
}
