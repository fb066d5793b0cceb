package publisher_test

import (
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/publisher"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for the broker.
const patience = 60 * time.Second

// channel opens a plain channel, independent of the code under test.
func channel(t *testing.T, url string) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	require.NoError(t, err)
	return ch
}

// queue declares a quorum queue that is deleted with the test.
func queue(t *testing.T, url string, args amqp.Table) string {
	t.Helper()
	if args == nil {
		args = amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}
	}
	name := brokertest.Name(t, "publisher")
	_, err := channel(t, url).QueueDeclare(name, true, false, false, false, args)
	require.NoError(t, err)
	t.Cleanup(func() {
		if conn, err := amqp.Dial(url); err == nil {
			defer conn.Close()
			if ch, err := conn.Channel(); err == nil {
				_, _ = ch.QueueDelete(name, false, false, false)
			}
		}
	})
	return name
}

func open(t *testing.T, config publisher.Config) *publisher.Publisher {
	t.Helper()
	p, err := publisher.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close(t.Context()) })
	return p
}

func newEvent(t require.TestingT, data any) event.Event {
	e, err := event.New("order.created", "test", data)
	require.NoError(t, err)
	return e
}

// received takes everything out of a queue, by event id: how often each is there.
func received(t *testing.T, url, queue string) map[string]int {
	t.Helper()
	ch := channel(t, url)
	ids := map[string]int{}
	for {
		m, ok, err := ch.Get(queue, true)
		require.NoError(t, err)
		if !ok {
			return ids
		}
		ids[m.MessageId]++
	}
}

// outcomes collects the results of many sends.
type outcomes struct {
	results chan publisher.Result
}

func newOutcomes(n int) *outcomes { return &outcomes{make(chan publisher.Result, n)} }

func (o *outcomes) done(r publisher.Result) { o.results <- r }

// wait gives n results by event id.
func (o *outcomes) wait(t *testing.T, n int) map[string]publisher.Result {
	t.Helper()
	got := make(map[string]publisher.Result, n)
	deadline := time.After(patience)
	for i := range n {
		select {
		case r := <-o.results:
			_, twice := got[r.Message.Event.ID]
			require.False(t, twice, "two outcomes for event %s", r.Message.Event.ID)
			got[r.Message.Event.ID] = r
		case <-deadline:
			require.Fail(t, "outcomes missing", "%d of %d came", i, n)
		}
	}
	return got
}

func count(results map[string]publisher.Result) string {
	counts := map[publisher.Outcome]int{}
	for _, r := range results {
		counts[r.Outcome]++
	}
	return fmt.Sprint(counts)
}
