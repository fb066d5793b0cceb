package relay_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/publisher"
)

const (
	crashKills  = 20
	crashWindow = 50
)

// child says what a relay in a process of its own is to do.
type child struct {
	DB, Broker, Queue string
	Window            int
}

// runChild runs a relay until it is killed, and says when it is the active one.
func runChild(ctx context.Context, spec string) error {
	var c child
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return err
	}
	store, err := eventstore.Open(ctx, eventstore.Config{DB: c.DB, BusyTimeout: patience})
	if err != nil {
		return err
	}
	p, err := publisher.Open(ctx, publisher.Config{URLs: []string{c.Broker}, ConnectTimeout: patience})
	if err != nil {
		return err
	}
	r, err := relay.New(relay.Config{Store: store, Publisher: p, To: relay.ToQueue(c.Queue), Window: c.Window, Lease: shortLease})
	if err != nil {
		return err
	}
	go func() {
		for !r.Stats().Active {
			time.Sleep(time.Millisecond) //nolint:forbidigo // between two looks
		}
		fmt.Fprintln(os.Stdout, "active")
	}()
	return r.Run(ctx)
}

// process is a child that runs.
type process struct {
	*exec.Cmd
	active chan error // has nil once it is the active relay
}

func (c child) start(t *testing.T) *process {
	t.Helper()
	spec, err := json.Marshal(c)
	require.NoError(t, err)
	p := &process{exec.CommandContext(t.Context(), os.Args[0]), make(chan error, 1)}
	p.Env = append(os.Environ(), childEnv+"="+string(spec))
	p.Stderr = os.Stderr
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	go func() {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err == nil && line != "active\n" {
			err = fmt.Errorf("the child says %q", line)
		}
		p.active <- err
	}()
	return p
}

func (p *process) kill() {
	_ = p.Process.Kill()
	_ = p.Wait()
	<-p.active
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

// A relay is killed with SIGKILL at random moments, again and again, while events are appended. Nothing is missing, each
// stream's events arrive for the first time in their order, and no kill has more repeated than the window.
func TestKilled(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db string) { testKills(t, db, 1) })
}

// The same with another relay that stands by and takes over.
func TestKilledAndTakenOver(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db string) { testKills(t, db, 2) })
}

func testKills(t *testing.T, db string, relays int) {
	t.Helper()
	url := brokertest.URL(t)
	store := open(t, eventstore.Config{DB: db, BusyTimeout: patience})
	c := child{DB: db, Broker: url, Queue: queue(t, url), Window: crashWindow}
	l := consume(t, url, c.Queue)
	appending, stop := context.WithCancel(t.Context())
	total := make(chan int, 1)
	go func() { total <- appendSteadily(appending, t, store, l) }()

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	running := make([]*process, relays)
	for i := range running {
		running[i] = c.start(t)
	}
	for range crashKills {
		i := active(t, running)
		<-time.After(time.Duration(random.Int64N(int64(120 * time.Millisecond))))
		running[i].kill()
		running[i] = c.start(t)
	}
	stop()
	n := <-total
	eventually(t, func() bool { return l.reached() == int64(n) }, "the last event")
	for _, p := range running {
		p.kill()
	}
	got := l.of(n)
	t.Logf("%d events, %d repeated by %d kills, at most %d at a time", n, got.extra, crashKills, got.longest)
	assert.Zero(t, got.missing, "missing")
	assert.Empty(t, got.disorder)
	assert.LessOrEqual(t, got.longest, int64(crashWindow))
	assert.Positive(t, got.extra, "kills that repeat nothing have not hit what they were to hit")
}

// active waits until one of the processes is the active relay.
func active(t *testing.T, running []*process) int {
	t.Helper()
	deadline := time.After(patience)
	for {
		for i, p := range running {
			select {
			case err := <-p.active:
				require.NoError(t, err)
				p.active <- nil
				return i
			case <-deadline:
				require.FailNow(t, "no relay becomes active")
			case <-time.After(time.Millisecond):
			}
		}
	}
}

// appendSteadily appends, a few hundred events ahead of the consumer so that relays always have work, and gives how many
// there are.
func appendSteadily(ctx context.Context, t *testing.T, store *eventstore.Store, l *ledger) (n int) {
	t.Helper()
	const ahead = 2000
	for ctx.Err() == nil {
		if n-int(l.reached()) > ahead {
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		if !assert.NoError(t, appendEvents(context.WithoutCancel(ctx), store, n, n+50)) {
			return n
		}
		n += 50
	}
	return n
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
