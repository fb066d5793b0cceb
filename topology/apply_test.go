package topology_test

import (
	"context"
	"errors"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/topology"
)

func TestApplyTwice(t *testing.T) {
	t.Parallel()
	conn := dial(t)
	spec, _ := unique(t, conn, topology.Default())
	r := spec.Resources()

	before, err := r.Plan(t.Context(), conn)
	require.NoError(t, err)
	require.NoError(t, before.Err())
	assert.Equal(t, len(before.Changes), before.Count(topology.ActionCreate), "nothing is there")

	again, err := r.Plan(t.Context(), conn)
	require.NoError(t, err)
	require.Equal(t, before, again, "planning creates nothing")

	require.NoError(t, r.Apply(t.Context(), conn))
	after, err := r.Plan(t.Context(), conn)
	require.NoError(t, err)
	assert.Equal(t, len(r.Exchanges)+len(r.Queues), after.Count(topology.ActionKeep))
	assert.Equal(t, len(r.Bindings), after.Count(topology.ActionEnsure))

	require.NoError(t, r.Apply(t.Context(), conn))
	last, err := r.Plan(t.Context(), conn)
	require.NoError(t, err)
	assert.Equal(t, after, last)
}

func TestApplyAnySpecTwice(t *testing.T) {
	t.Parallel()
	conn := dial(t)
	for seed := range 5 {
		// A broker takes a while to make a quorum queue: a handful of examples, not a hundred.
		example := rapid.Custom(drawSpec).Example(seed)
		spec, _ := unique(t, conn, example)
		r := spec.Resources()
		require.NoError(t, r.Apply(t.Context(), conn), "%s", spec.YAML())
		require.NoError(t, r.Apply(t.Context(), conn), "%s", spec.YAML())
		plan, err := r.Plan(t.Context(), conn)
		require.NoError(t, err)
		require.Equal(t, len(r.Exchanges)+len(r.Queues), plan.Count(topology.ActionKeep), "%s", spec.YAML())
	}
}

// TestApplyByManyAtOnce is what happens when all workers of a service start together.
func TestApplyByManyAtOnce(t *testing.T) {
	t.Parallel()
	first := dial(t)
	spec, _ := unique(t, first, topology.Default())
	group, ctx := errgroup.WithContext(t.Context())
	for range 6 {
		conn := dial(t)
		group.Go(func() error { return spec.Resources().Apply(ctx, conn) })
	}
	require.NoError(t, group.Wait())
}

func TestAppliedTopologyCarriesEvents(t *testing.T) {
	t.Parallel()
	conn := dial(t)
	spec, prefix := unique(t, conn, topology.Default())
	require.NoError(t, spec.Resources().Apply(t.Context(), conn))
	ch := channel(t, conn)
	everything, err := ch.QueueDeclare("", false, true, true, false, nil)
	require.NoError(t, err)
	require.NoError(t, ch.QueueBind(everything.Name, "", spec.Events(), false, nil))

	publish(t, conn, prefix+"orders", "", "1")

	for _, queue := range []string{everything.Name, prefix + "payments", prefix + "orders.email", prefix + "orders.analytics"} {
		assert.Equal(t, "1", get(t, ch, queue), "in %s", queue)
	}
}

func TestRetryTierGivesBackAndDeadLettersAreKept(t *testing.T) {
	t.Parallel()
	conn := dial(t)
	spec, prefix := unique(t, conn, topology.Spec{Queues: map[string]topology.Queue{"q": {Retry: shortRetry()}}})
	queue := prefix + "q"
	require.NoError(t, spec.Resources().Apply(t.Context(), conn))
	ch := channel(t, conn)

	publish(t, conn, "", topology.RetryTier(queue, shortRetry()[0]), "waited")
	assert.Equal(t, "waited", get(t, ch, queue))

	publish(t, conn, "", queue, "poison")
	message := take(t, ch, queue)
	require.NoError(t, message.Reject(false))
	assert.Equal(t, "poison", get(t, ch, topology.DeadLetterQueue(queue)))
}

// TestLookingAtDeadLettersLosesNone: RabbitMQ 4 drops what was given back 20 times, and a queue
// without a limit changes its order.
func TestLookingAtDeadLettersLosesNone(t *testing.T) {
	t.Parallel()
	conn := dial(t)
	spec, prefix := unique(t, conn, topology.Spec{Queues: map[string]topology.Queue{"q": {Retry: noRetry()}}})
	require.NoError(t, spec.Resources().Apply(t.Context(), conn))
	dlq := topology.DeadLetterQueue(prefix + "q")
	bodies := []string{"a", "b", "c"}
	for _, body := range bodies {
		publish(t, conn, "", dlq, body)
	}
	for range 2*topology.DeliveryLimit + 2 {
		ch := channel(t, conn)
		var seen []string
		for range bodies {
			seen = append(seen, string(take(t, ch, dlq).Body))
		}
		require.Equal(t, bodies, seen)
		require.NoError(t, ch.Close(), "gives everything back")
	}
}

func TestApplyRefusesNamesBeforeItSends(t *testing.T) {
	t.Parallel()
	var invalid *topology.InvalidError
	for _, r := range []topology.Resources{
		topology.Default().QueueResources(""),
		topology.Default().QueueResources("payments.dlq"),
		topology.Default().QueueResources("payments.retry.5s"),
		topology.Default().TopicResources("amq.fanout"),
	} {
		require.ErrorAs(t, r.Apply(t.Context(), noChannels{}), &invalid)
		_, err := r.Plan(t.Context(), noChannels{})
		require.ErrorAs(t, err, &invalid)
		_, err = r.Inspect(t.Context(), noChannels{})
		require.ErrorAs(t, err, &invalid)
		require.ErrorAs(t, r.Delete(t.Context(), noChannels{}), &invalid)
	}
}

func TestNoChannel(t *testing.T) {
	t.Parallel()
	r := topology.Default().Resources()
	require.ErrorIs(t, r.Apply(t.Context(), noChannels{}), errNoChannel)
	require.ErrorIs(t, r.Delete(t.Context(), noChannels{}), errNoChannel)

	conn := dial(t)
	require.NoError(t, conn.Close())
	require.ErrorIs(t, r.Apply(t.Context(), conn), amqp.ErrClosed)
}

func TestContextEndsApply(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	require.ErrorIs(t, topology.Default().Resources().Apply(ended, noChannels{}), cause)

	ctx, cancel := context.WithCancelCause(t.Context())
	blocked := blockingChannels{called: make(chan struct{}), release: make(chan struct{})}
	defer close(blocked.release)
	done := make(chan error, 1)
	go func() { done <- topology.Default().Resources().Apply(ctx, blocked) }()
	<-blocked.called
	cancel(cause)
	require.ErrorIs(t, <-done, cause, "although the broker does not answer")
}

var errNoChannel = errors.New("no channel")

type noChannels struct{}

func (noChannels) Channel() (*amqp.Channel, error) { return nil, errNoChannel }

// blockingChannels is a broker that does not answer.
type blockingChannels struct {
	called, release chan struct{}
}

func (b blockingChannels) Channel() (*amqp.Channel, error) {
	close(b.called)
	<-b.release
	return nil, errNoChannel
}

// publish sends one persistent message and waits until the broker has it.
func publish(t *testing.T, conn *amqp.Connection, exchange, key, body string) {
	t.Helper()
	ch := channel(t, conn)
	defer func() { require.NoError(t, ch.Close()) }()
	require.NoError(t, ch.Confirm(false))
	confirmation, err := ch.PublishWithDeferredConfirmWithContext(t.Context(), exchange, key, true, false,
		amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(body)})
	require.NoError(t, err)
	require.True(t, confirmation.Wait())
}

// get takes a message away from a queue, waiting until there is one.
func get(t *testing.T, ch *amqp.Channel, queue string) string {
	t.Helper()
	message := take(t, ch, queue)
	require.NoError(t, message.Ack(false))
	return string(message.Body)
}

// take takes a message from a queue without acknowledging it.
func take(t *testing.T, ch *amqp.Channel, queue string) amqp.Delivery {
	t.Helper()
	var message amqp.Delivery
	require.Eventually(t, func() bool {
		var ok bool
		var err error
		message, ok, err = ch.Get(queue, false)
		return err != nil || ok
	}, patience, tick, "nothing in %s", queue)
	require.NotNil(t, message.Acknowledger, "get from %s", queue)
	return message
}
