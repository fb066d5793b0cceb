package publisher

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/internal/session"
)

const (
	// recheckEvery is how often a missing exchange is looked for again.
	recheckEvery = time.Second
	// forbiddenFor is how long a destination that may not be written to is taken for that. The next
	// event after it tries again, which costs the channel if nothing has changed.
	forbiddenFor = 10 * time.Second
	// maxRefusals bounds what is remembered.
	maxRefusals = 1000
)

// isRefusal tells whether the broker ended the channel or the connection because of what was
// sent on it, and would do so again.
func isRefusal(reply *amqp.Error) bool {
	if reply == nil || !reply.Server {
		return false
	}
	switch reply.Code {
	case amqp.ContentTooLarge, amqp.AccessRefused, amqp.NotFound, amqp.ResourceLocked, amqp.PreconditionFailed,
		amqp.FrameError, amqp.SyntaxError, amqp.CommandInvalid, amqp.UnexpectedFrame, amqp.NotAllowed, amqp.NotImplemented:
		return true
	default:
		return false
	}
}

func isNotFound(reply *amqp.Error) bool { return reply != nil && reply.Code == amqp.NotFound }

// refusals remembers for which destinations the broker closes the channel, so that the events for
// them get their outcome without costing every other event its channel. A missing exchange is
// remembered for all its routing keys; a missing permission may be that of one.
type refusals map[Destination]refusal

type refusal struct {
	outcome Outcome
	reply   *amqp.Error
	until   time.Time
}

// add remembers what a reply means for the events of a destination and gives their outcome.
func (r refusals) add(to Destination, reply *amqp.Error) Outcome {
	if len(r) >= maxRefusals {
		clear(r)
	}
	switch reply.Code {
	case amqp.NotFound:
		r[Destination{Exchange: to.Exchange}] = refusal{Returned, reply, time.Now().Add(recheckEvery)}
		return Returned
	case amqp.AccessRefused:
		r[to] = refusal{Nacked, reply, time.Now().Add(forbiddenFor)}
	}
	return Nacked // else it was this event's own fault, not the destination's
}

// check gives the outcome of an event for a destination that refuses it; 0 where none does.
func (r refusals) check(to Destination, s *session.Session) (Outcome, error) {
	if len(r) == 0 {
		return 0, nil
	}
	key := to
	known, ok := r[key]
	if !ok {
		key = Destination{Exchange: to.Exchange}
		if known, ok = r[key]; !ok || known.outcome != Returned {
			return 0, nil
		}
	}
	if time.Now().After(known.until) {
		if known.outcome == Nacked || exists(to.Exchange, s) {
			delete(r, key)
			return 0, nil
		}
		known.until = time.Now().Add(recheckEvery)
		r[key] = known
	}
	return known.outcome, known.reply
}

// exists looks for an exchange on a channel of its own, which dies if there is none.
func exists(exchange string, s *session.Session) bool {
	ch, err := s.Channel()
	if err != nil {
		return false
	}
	if ch.ExchangeDeclarePassive(exchange, amqp.ExchangeFanout, true, false, false, false, nil) != nil {
		return false
	}
	_ = ch.Close()
	return true
}
