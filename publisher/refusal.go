package publisher

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/internal/session"
)

// recheckEvery is how often a missing exchange is looked for again.
const recheckEvery = time.Second

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

// refusals remembers for which exchanges the broker closes the channel, so that the events for
// them get their outcome without costing every other event its channel.
type refusals map[string]refusal

type refusal struct {
	outcome Outcome
	reply   *amqp.Error
	recheck time.Time // zero: not while this connection lasts
}

// add remembers what a reply means for the events of an exchange and gives their outcome.
func (r refusals) add(exchange string, reply *amqp.Error) Outcome {
	switch reply.Code {
	case amqp.NotFound:
		r[exchange] = refusal{Returned, reply, time.Now().Add(recheckEvery)}
		return Returned
	case amqp.AccessRefused:
		// The broker caches permissions for a channel's life, and asks its users to reconnect.
		r[exchange] = refusal{Nacked, reply, time.Time{}}
	}
	return Nacked // it was this event's own fault, not the exchange's
}

// check gives the outcome of an event for an exchange that refuses it; 0 where none does.
func (r refusals) check(exchange string, s *session.Session) (Outcome, error) {
	if len(r) == 0 {
		return 0, nil
	}
	known, ok := r[exchange]
	if !ok {
		return 0, nil
	}
	if !known.recheck.IsZero() && time.Now().After(known.recheck) {
		if exists(exchange, s) {
			delete(r, exchange)
			return 0, nil
		}
		known.recheck = time.Now().Add(recheckEvery)
		r[exchange] = known
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
