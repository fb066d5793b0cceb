package worker

import (
	"context"
	"log/slog"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/topology"
)

// suspectAfter is how many deliveries without an answer make an event suspect of killing its worker. It
// is a quarter of the delivery limit: orderly restarts over one backlog give events back as well, and what
// was sent ahead with a culprit must stay far from the limit, since it may be sent ahead with another one.
const suspectAfter = topology.DeliveryLimit / 4

// isolates tells whether this subscription begins with one event at a time, until it has seen one
// that is above suspicion.
//
// An event that kills its worker takes down with it everything that the broker has sent ahead: each
// of those events is delivered once more too, and after the delivery limit the broker would
// dead-letter them all together. So suspects are handled alone, with nothing sent ahead, and only
// the one at fault goes on counting.
//
// A queue with a single active consumer is left out, since the change of consumers could hand it
// to another worker while the first event is in hand; and so is a listener's, which dies with its
// worker.
func (sub *subscription) isolates() bool {
	if sub.config.Topic != "" || sub.config.Prefetch == 1 && sub.config.Concurrency == 1 {
		return false
	}
	for _, q := range sub.config.Declare.Queues {
		if q.Name == sub.queue && q.SingleActive() {
			return false
		}
	}
	return true
}

// openUp handles suspects one at a time, and lets the broker send ahead once an event comes that is
// none: it gives that event. False means that the subscription has ended.
func (sub *subscription) openUp(ctx context.Context) (first *amqp.Delivery, ok bool) {
	for sub.takeTicketAlone(ctx) {
		m, ok := sub.receiveAlone(ctx)
		if !ok {
			sub.returnTicket()
			return nil, false
		}
		n := number(m.Headers, "x-delivery-count")
		if n < suspectAfter {
			sub.inHand.Add(1) // it is, however long the broker takes to send more
			ok = sub.sendAhead(ctx)
			sub.touch()
			sub.inHand.Add(-1)
			return &m, ok
		}
		sub.config.Logger.Warn("event was delivered before and never answered; it is handled alone",
			slog.String("id", m.MessageId), slog.String("queue", sub.queue), slog.Int("deliveries", n))
		sub.prepare(ctx, &m)()
		_ = sub.acks.flush() // or the next one would not come
	}
	return nil, false
}

// sendAhead changes over to a consumer with the full prefetch. Where the channel is lost meanwhile,
// the event in hand is delivered again.
func (sub *subscription) sendAhead(ctx context.Context) bool {
	sub.changing.Lock()
	defer sub.changing.Unlock()
	single := sub.intake.Load()
	if ctx.Err() != nil || sub.stopping || sub.takeAll() != nil || sub.channel.Cancel(single.tag, false) != nil {
		sub.returnTicket()
		return false
	}
	for m := range single.deliveries { // none, unless the broker sent more than was asked for
		_ = sub.acks.requeue(m.DeliveryTag)
	}
	return true
}

// takeTicketAlone takes a ticket while this is the only loop. An event that has failed may have the last one.
func (sub *subscription) takeTicketAlone(ctx context.Context) bool {
	if sub.tickets == nil {
		return true
	}
	for {
		select {
		case <-sub.tickets:
			return true
		case due := <-sub.lanes.due:
			sub.goOnAlone(due)
		case <-ctx.Done():
			return false
		}
	}
}

// receiveAlone receives while this is the only loop. Where order is kept, the event before may have failed,
// and its next attempt is this loop's too: nothing else comes before it is settled.
func (sub *subscription) receiveAlone(ctx context.Context) (m amqp.Delivery, ok bool) {
	for ctx.Err() == nil {
		select {
		case m, ok = <-sub.intake.Load().deliveries:
			return m, ok
		case due := <-sub.lanes.due:
			sub.goOnAlone(due)
		case <-ctx.Done():
		}
	}
	return m, false
}

func (sub *subscription) goOnAlone(due resumed) {
	sub.walk(due.lane, due.errand)
	_ = sub.acks.flush() // or the next one would not come
}
