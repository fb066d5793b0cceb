package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/internal/stage"
)

// placeOrders has customers place orders in the shop at a URL, so many at a time. It gives when each order was placed, by its id,
// and how many the shop has accepted; waited gets how long each customer had to wait for the answer.
func placeOrders(ctx context.Context, s *stage.Stage, url string, n, customers int, waited *stage.Times) (placed map[string]time.Time, accepted int, err error) {
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(customers)
	placed = map[string]time.Time{}
	for range n {
		body := fmt.Sprintf(`{"user_id":"user-%d","items":["item-%d"]}`, 1+s.Rand.IntN(500), 1+s.Rand.IntN(40))
		group.Go(func() error {
			began := time.Now()
			id, ok, err := placeOrder(ctx, url, body)
			waited.Add(time.Since(began))
			mu.Lock()
			defer mu.Unlock()
			if placed[id] = began; ok {
				accepted++
			}
			return err
		})
	}
	err = group.Wait()
	return placed, accepted, err
}

// placeOrder places an order in the shop at a URL, and tells its id, and whether the shop says that it is done or will be.
func placeOrder(ctx context.Context, url, body string) (id string, accepted bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/orders", strings.NewReader(body))
	if err != nil {
		return "", false, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", false, err
	}
	defer response.Body.Close()
	var order struct {
		ID    string `json:"id"`
		Other string `json:"order_id"` // of one that is not accepted
	}
	err = json.NewDecoder(response.Body).Decode(&order)
	return order.ID + order.Other, response.StatusCode < http.StatusMultipleChoices, err
}
