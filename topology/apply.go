package topology

import (
	"context"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Apply makes everything be there: it creates what is missing and makes all bindings. Applying
// again changes nothing, and several may apply at once. It never changes or deletes what exists.
//
// If anything exists with other arguments, nothing is created and the error has a
// [*ConflictError] for each such object. Other errors are an [*InvalidError] for names that
// cannot be, before anything is sent; an [*AccessError] where the broker's user lacks a
// permission; the broker's own refusal (an amqp.Error) with the object in front; and, when ctx
// ends, its cause. What was created before such an error stays, and applying again goes on.
//
// Where everything is there already, it takes two round trips per object and leaves no trace in
// the broker's log.
func (r Resources) Apply(ctx context.Context, conn Channels) error {
	if err := r.Validate(); err != nil {
		return err
	}
	_, err := withClient(ctx, conn, func(c *client) (struct{}, error) {
		c.creating = true
		plan, err := r.plan(ctx, c)
		if err == nil {
			err = plan.Err()
		}
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, r.create(ctx, c, plan)
	})
	return err
}

func (r Resources) create(ctx context.Context, c *client, plan Plan) error {
	exchanges, queues := plan.creates(KindExchange), plan.creates(KindQueue)
	for _, exchange := range r.Exchanges {
		if exchanges[exchange.Name] {
			if err := c.create(ctx, exchange.declaration()); err != nil {
				return err
			}
		}
	}
	for _, queue := range r.Queues {
		if queues[queue.Name] {
			if err := c.create(ctx, queue.declaration()); err != nil {
				return err
			}
		}
	}
	for _, binding := range r.Bindings {
		if err := c.bind(ctx, binding); err != nil {
			return err
		}
	}
	return nil
}

// create declares what was missing a moment ago. Someone else may have created it since, as it
// is wanted or otherwise.
func (c *client) create(ctx context.Context, d declaration) error {
	err := c.declare(ctx, d)
	if err == nil {
		return nil
	}
	if hasCode(err, amqp.PreconditionFailed) || hasCode(err, amqp.ResourceLocked) {
		if _, conflict, compareErr := c.compare(ctx, d); compareErr == nil && conflict != nil {
			return conflict
		}
	}
	return explain("create", d.kind, d.name, false, err)
}
