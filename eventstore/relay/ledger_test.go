package relay_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go" //nolint:depguard // what is on the broker is looked at with nothing of ours in between
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/brokertest"
)

// channel opens a plain channel, independent of the code under test.
func channel(tb testing.TB, url string) *amqp.Channel {
	tb.Helper()
	conn, err := amqp.Dial(url)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	require.NoError(tb, err)
	return ch
}

// queue declares a quorum queue that is deleted with the test.
func queue(tb testing.TB, url string) string {
	tb.Helper()
	name := brokertest.Name(tb, "relay")
	declare(tb, url, name, quorum())
	return name
}

func declare(tb testing.TB, url, name string, args map[string]any) {
	tb.Helper()
	_, err := channel(tb, url).QueueDeclare(name, true, false, false, false, args)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		if conn, err := amqp.Dial(url); err == nil {
			defer conn.Close()
			if ch, err := conn.Channel(); err == nil {
				_, _ = ch.QueueDelete(name, false, false, false)
			}
		}
	})
}

// quorum gives the arguments of a quorum queue.
func quorum() map[string]any { return map[string]any{amqp.QueueTypeArg: amqp.QueueTypeQuorum} }

// topic declares a fanout exchange that is deleted with the test.
func topic(t *testing.T, url string) string {
	t.Helper()
	name := brokertest.Name(t, "relay")
	ch := channel(t, url)
	require.NoError(t, ch.ExchangeDeclare(name, amqp.ExchangeFanout, true, false, false, false, nil))
	t.Cleanup(func() { assert.NoError(t, ch.ExchangeDelete(name, false, false), fmt.Sprint("delete ", name)) })
	return name
}

// arrival is one that a consumer of the queue has seen.
type arrival struct {
	position, version int64
	id, stream        string
}

// ledger is what an independent consumer writes down: every arrival, in its order.
type ledger struct {
	mu       sync.Mutex
	arrivals []arrival
	furthest int64
}

func consume(t *testing.T, url, queue string) *ledger {
	t.Helper()
	ch := channel(t, url)
	require.NoError(t, ch.Qos(1000, 0, false))
	deliveries, err := ch.Consume(queue, "", false, true, false, false, nil)
	require.NoError(t, err)
	l := &ledger{}
	go func() {
		for d := range deliveries {
			l.add(&d)
			_ = d.Ack(false)
		}
	}()
	return l
}

func (l *ledger) add(d *amqp.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.Redelivered { // the ledger's own
		return
	}
	a := arrival{id: d.MessageId}
	a.position, _ = d.Headers[relay.HeaderPosition].(int64)
	a.version, _ = d.Headers[relay.HeaderVersion].(int64)
	a.stream, _ = d.Headers[relay.HeaderStream].(string)
	l.arrivals = append(l.arrivals, a)
	l.furthest = max(l.furthest, a.position)
}

func (l *ledger) reached() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.furthest
}

// account is what a ledger amounts to.
type account struct {
	missing, extra int
	disorder       []string // first arrivals that came before one they are to follow
	longest        int64    // how far back a repetition has gone at most, in events
}

// of gives the account of the events 0 to n-1.
func (l *ledger) of(n int) (a account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen, versions, furthest := map[string]int{}, map[string]int64{}, int64(0)
	for _, at := range l.arrivals {
		if seen[at.id]++; seen[at.id] > 1 {
			a.extra++
			a.longest = max(a.longest, furthest-at.position+1)
			continue
		}
		if at.version != versions[at.stream]+1 || at.position != furthest+1 {
			a.disorder = append(a.disorder, fmt.Sprintf("%+v behind version %d, position %d", at, versions[at.stream], furthest))
		}
		versions[at.stream] = at.version
		furthest = max(furthest, at.position)
	}
	for i := range n {
		if seen[numbered(i).ID] == 0 {
			a.missing++
		}
	}
	return a
}

// The account finds what it is there to find.
func TestAccount(t *testing.T) {
	t.Parallel()
	at := func(positions ...int) *ledger {
		l := &ledger{}
		for _, position := range positions {
			l.arrivals = append(l.arrivals, arrival{
				position: int64(position), version: int64((position-1)/streams + 1), id: numbered(position - 1).ID, stream: streamOf(position - 1),
			})
		}
		return l
	}
	assert.Equal(t, account{}, at(1, 2, 3).of(3))
	assert.Equal(t, account{missing: 1}, at(1, 2, 3).of(4))
	assert.Equal(t, account{extra: 3, longest: 2}, at(1, 2, 3, 2, 3, 4, 4).of(4))
	swapped := at(1, 3, 2).of(3)
	assert.Len(t, swapped.disorder, 2)
	assert.True(t, strings.HasPrefix(swapped.disorder[0], "{position:3 "))
}
