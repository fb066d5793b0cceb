package main

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/system"
)

func TestMain(m *testing.M) {
	if os.Getenv("GIFTS_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestGifts(t *testing.T) {
	t.Parallel()
	node := brokertest.Node(t)
	db := filepath.Join(t.TempDir(), "shop.db")
	store, err := eventstore.Open(t.Context(), eventstore.Config{DB: db})
	require.NoError(t, err)
	random := rand.New(rand.NewPCG(7, 7))
	gifts := 0
	for range 40 {
		order := shop.Sample(random)
		if order.Amount >= 5000 {
			gifts++
		}
		write, err := shop.Placed(order)
		require.NoError(t, err)
		_, err = store.Append(t.Context(), write)
		require.NoError(t, err)
	}
	require.Positive(t, gifts)

	program := exec.CommandContext(t.Context(), os.Args[0])
	program.Env = append(os.Environ(), "GIFTS_MAIN=1", "EVDEMO_DB="+db, "AMQP_URL="+node.URL())
	require.NoError(t, program.Start())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.Eventually(t, func() bool { // or it would miss what is shipped before
		return consumers(t, node.ManagementURL(), "shop.shipping.gifts") == 1
	}, time.Minute, 100*time.Millisecond)
	shop, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := system.Run(shop, system.Config{Store: store, Broker: &system.Broker{URLs: []string{node.URL()}}})
		ended <- err
	}()
	sent := 0
	for r, err := range store.Follow(ctx, eventstore.Query{Types: []string{"gift.sent"}}) {
		require.NoError(t, err)
		var shipped struct{ Order struct{ Amount int } }
		require.NoError(t, json.Unmarshal(r.Data, &shipped))
		require.GreaterOrEqual(t, shipped.Order.Amount, 5000)
		require.EqualValues(t, 1, r.Version)
		if sent++; sent == gifts {
			break
		}
	}
	stop()
	require.NoError(t, <-ended)
	require.NoError(t, program.Process.Signal(os.Interrupt))
	require.NoError(t, program.Wait())
	require.NoError(t, store.Close())
}

// consumers is how many there are on a queue, 0 where it is not there yet.
func consumers(t *testing.T, api, queue string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, api+"/api/queues/%2F/"+queue, nil)
	require.NoError(t, err)
	request.SetBasicAuth("guest", "guest")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	var of struct{ Consumers int }
	if response.StatusCode == http.StatusOK {
		require.NoError(t, json.NewDecoder(response.Body).Decode(&of))
	}
	return of.Consumers
}
