package synchronous

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
)

// runChild runs a shop with some faults until it is killed, and prints where.
func runChild(ctx context.Context, db string) error {
	store, err := eventstore.Open(ctx, eventstore.Config{DB: db, BusyTimeout: patience})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, listener.Addr())
	_, err = Run(ctx, Config{
		Store: store, Pause: 5 * time.Millisecond, LongestPause: 20 * time.Millisecond,
		Faults: system.Faults{
			Fail: map[string]float64{service.Payment: 0.1, service.Inventory: 0.1, service.Shipping: 0.2, service.Email: 0.1},
			Slow: map[string]time.Duration{service.Payment: 5 * time.Millisecond, service.Shipping: 5 * time.Millisecond},
			Refuse: map[string]float64{
				service.Fraud: 0.05, service.Payment: 0.05, service.Inventory: 0.1, service.Shipping: 0.2,
			},
		},
	}, listener)
	return err
}

const (
	kills     = 6
	customers = 8
)

// The process is killed with SIGKILL again and again while customers place orders. In the end every order is shipped and paid,
// or cancelled and paid back; those that were answered ended as answered, and of those that were not none is lost.
func TestKilled(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db func(*testing.T) string) {
		t.Helper()
		killAgainAndAgain(t, db(t))
	})
}

func killAgainAndAgain(t *testing.T, db string) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	answered := map[string]Status{}
	unanswered := 0
	for range kills {
		p := exec.CommandContext(t.Context(), os.Args[0])
		p.Env = append(os.Environ(), childEnv+"="+db)
		var complaints strings.Builder
		p.Stderr = &complaints
		out, err := p.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, p.Start())
		address, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err, &complaints)
		pause := time.Duration(random.Int64N(int64(50 * time.Millisecond)))
		lost := placeUntilKilled(t, "http://"+strings.TrimSpace(address), answered, 1+random.IntN(2*customers), func() {
			<-time.After(pause)
			_ = p.Process.Kill()
		})
		_ = p.Wait()
		require.False(t, p.ProcessState.Exited(), "it ended by itself: %s", &complaints)
		unanswered += lost
	}
	r := open(t, openStore(t, db))
	report := untilSound(t, r.store)
	t.Logf("%d answered, %d not; %d orders: %d shipped, %d cancelled", len(answered), unanswered, report.Orders, report.Shipped, report.Cancelled)
	require.NotEmpty(t, answered)
	require.Positive(t, unanswered)
	require.GreaterOrEqual(t, report.Orders, len(answered))
	require.Positive(t, report.Shipped)
	require.Positive(t, report.Refunded)
	for id, status := range answered {
		require.Equal(t, status, r.statusOf(id).Status, id)
	}
}

// placeUntilKilled has customers place orders, kills the shop at some time after so many answers, and counts the requests that
// had none. The answers that say what became of an order are noted down.
func placeUntilKilled(t *testing.T, url string, answered map[string]Status, after int, kill func()) (lost int) {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: customers}
	defer transport.CloseIdleConnections()
	r := &running{t: t, url: url, client: &http.Client{Transport: transport, Timeout: patience}}
	var mu sync.Mutex
	answers := 0
	ask := func() bool {
		g, err := r.try(t.Context(), http.MethodPost, "/api/orders", anOrder)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			lost++
			return false
		}
		var answer told
		assert.NoError(t, answer.read(g.body), "%s", g.body)
		if g.status == http.StatusCreated {
			answered[answer.ID] = answer.Status
		}
		answers++
		return true
	}
	var group sync.WaitGroup
	for range customers {
		group.Go(func() {
			for ask() {
			}
		})
	}
	eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return answers >= after
	}, "answers")
	kill()
	group.Wait()
	return lost
}
