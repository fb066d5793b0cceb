package worker_test

import (
	"context"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/worker"
)

// This is why the client's own recovery is never used. It keeps the channel across connections, so
// a handler that finishes after the connection was lost acknowledges its old delivery tag on the
// new connection, where that tag is another message: the acknowledgement succeeds, and an event
// that nobody has handled is gone. Should this test fail one day, the client has changed, and the
// decision may be looked at again.
func TestClientRecoveryLosesAnEventToALateAck(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	ids := fill(t, url, q, 3)
	proxy := brokertest.Proxy(t, url)

	conn, err := amqp.DialConfig(proxy.URL(), amqp.Config{Recovery: &amqp.Recovery{}})
	require.NoError(t, err)
	defer conn.Close()
	ch, err := conn.Channel()
	require.NoError(t, err)
	require.NoError(t, ch.Qos(2, 0, false))
	deliveries, err := ch.Consume(q, "", false, false, false, false, nil)
	require.NoError(t, err)

	first := receive(t, deliveries)
	require.NoError(t, first.Ack(false))
	late := receive(t, deliveries) // the second event, tag 2; its handler takes its time
	require.Equal(t, ids[1], late.MessageId)
	receive(t, deliveries) // the third
	proxy.Cut()
	// After recovery the two that were not acknowledged come again, with tags 1 and 2.
	again := []amqp.Delivery{receive(t, deliveries), receive(t, deliveries)}
	require.Equal(t, ids[1], again[0].MessageId)
	require.Equal(t, ids[2], again[1].MessageId)

	require.NoError(t, late.Ack(false), "the late acknowledgement is taken for good")
	require.NoError(t, conn.Close())

	assert.Equal(t, map[string]int{ids[1]: 1}, remaining(t, url, q, 1),
		"the handled event is still there, and the third, which nobody has handled, is lost")
}

// The same story with a worker of ours: both late acknowledgements are refused, and the third
// event, given back, is still in the queue.
func TestASessionOfOursHasNoLateAck(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	ids := fill(t, url, q, 3)
	proxy := brokertest.Proxy(t, url)
	began, release, refused := make(chan struct{}, 2), make(chan struct{}), make(chan struct{})
	thirdAgain := make(chan struct{})
	w := start(t, worker.Config{URLs: []string{proxy.URL()}, Queue: q, Concurrency: 3, Prefetch: 2}, func(_ context.Context, d *worker.Delivery) error {
		switch {
		case d.Event.ID == ids[0]:
		case !d.Redelivered: // the second and the third are in hand when the connection is lost
			began <- struct{}{}
			<-release
		case d.Event.ID == ids[2]:
			close(thirdAgain)
			<-refused
			return worker.ErrRequeue
		}
		return nil
	})
	<-began
	<-began
	proxy.Cut()
	<-thirdAgain // it has the delivery tag now that the second had before
	close(release)
	eventually(t, func() bool { return w.Stats().Late == 2 }, "the late acknowledgements are refused")
	w.stop()
	close(refused)
	require.NoError(t, w.wait())
	assert.Equal(t, map[string]int{ids[2]: 1}, remaining(t, url, q, 1))
}

func receive(t *testing.T, deliveries <-chan amqp.Delivery) amqp.Delivery {
	t.Helper()
	select {
	case d, ok := <-deliveries:
		require.True(t, ok, "deliveries ended")
		return d
	case <-time.After(patience):
		require.Fail(t, "no delivery")
		panic("unreachable")
	}
}

// remaining waits for so many messages in a queue and takes them, by event id.
func remaining(t *testing.T, url, queue string, n int) map[string]int {
	t.Helper()
	ch := channel(t, url)
	eventually(t, func() bool { return depth(t, ch, queue) == n }, "%d messages in the queue", n)
	ids := map[string]int{}
	for range n {
		m, ok, err := ch.Get(queue, true)
		require.NoError(t, err)
		require.True(t, ok)
		ids[m.MessageId]++
	}
	return ids
}
