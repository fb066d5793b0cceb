package sink_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/sink"
)

func TestSearch(t *testing.T) {
	t.Parallel()
	subject{kind: "search", place: folder, check: checkSearch}.run(t)
}

func openSearch(t *testing.T, dir string) *sink.Search {
	t.Helper()
	s, err := sink.OpenSearch(t.Context(), sink.SearchConfig{Dir: dir})
	require.NoError(t, err)
	return s
}

// checkSearch looks for every order, and counts what the index says there are.
func checkSearch(t *testing.T, at place, orders int) {
	t.Helper()
	s := openSearch(t, at.Dir)
	defer func() { require.NoError(t, s.Close(t.Context())) }()
	find := func(query string) sink.Found {
		found, err := s.Search(t.Context(), query, sink.MaxHits)
		require.NoError(t, err, query)
		return found
	}
	assert.Equal(t, uint64(orders), find("").Total)
	assert.Equal(t, uint64(orders/5), find("status:cancelled").Total)
	assert.Equal(t, uint64(orders-orders/5), find("status:shipped").Total)
	for _, e := range history(orders) {
		if e.Type != shop.OrderCreated {
			continue
		}
		found := find("id:" + e.Subject)
		require.Equal(t, uint64(1), found.Total)
		var n int
		_, err := fmt.Sscanf(e.Subject, "order-%d", &n)
		require.NoError(t, err)
		o := orderOf(n)
		want := sink.Hit{OrderID: o.OrderID, UserID: o.UserID, Amount: o.Amount, Created: e.Time}
		for _, item := range o.Items {
			want.SKUs = append(want.SKUs, item.SKU)
		}
		slices.Sort(want.SKUs)
		want.SKUs = slices.Compact(want.SKUs)
		want.Status, want.Tracking = sink.StatusShipped, "track-"+o.OrderID
		if cancelled(n) {
			want.Status, want.Tracking = sink.StatusCancelled, ""
		}
		require.Equal(t, want, found.Hits[0])
	}
}

func TestSearchQueries(t *testing.T) {
	t.Parallel()
	s := openSearch(t, folder(t).Dir)
	defer func() { require.NoError(t, s.Close(t.Context())) }()
	require.NoError(t, handleAll(t.Context(), s, history(100), 1, 1))
	matching := func(match func(n int, o shop.Order) bool) (total uint64) {
		for n := range 100 {
			if match(n, orderOf(n)) {
				total++
			}
		}
		return total
	}
	has := func(o shop.Order, sku string) bool {
		return slices.ContainsFunc(o.Items, func(item shop.Item) bool { return item.SKU == sku })
	}
	for query, want := range map[string]uint64{
		"user:user-7":                      matching(func(_ int, o shop.Order) bool { return o.UserID == "user-7" }),
		"user-7":                           matching(func(_ int, o shop.Order) bool { return o.UserID == "user-7" }),
		"sku:item-3":                       matching(func(_ int, o shop.Order) bool { return has(o, "item-3") }),
		"+status:shipped +sku:item-3":      matching(func(n int, o shop.Order) bool { return !cancelled(n) && has(o, "item-3") }),
		"+status:shipped -user:user-7":     matching(func(n int, o shop.Order) bool { return !cancelled(n) && o.UserID != "user-7" }),
		"user:user-7 sku:item-3":           matching(func(_ int, o shop.Order) bool { return o.UserID == "user-7" || has(o, "item-3") }),
		"amount:>=2000":                    matching(func(_ int, o shop.Order) bool { return o.Amount >= 2000 }),
		`created:>="2026-03-30T22:00:00Z"`: 100,
		`created:<"2026-03-30T22:00:00Z"`:  0,
		"tracking:track-order-1":           1,
		"id:order-1*":                      11,
		"status:Shipped":                   0,
		"nofield:x":                        0,
		"*":                                100,
		`user:"user-7"`:                    matching(func(_ int, o shop.Order) bool { return o.UserID == "user-7" }),
		"+user:user-7 +status:shipped +amount:>0": matching(func(n int, o shop.Order) bool { return !cancelled(n) && o.UserID == "user-7" }),
	} {
		found, err := s.Search(t.Context(), query, 3)
		require.NoError(t, err, query)
		assert.Equal(t, want, found.Total, query)
		assert.Len(t, found.Hits, int(min(want, 3)), query)
	}
	found, err := s.Search(t.Context(), "status:shipped", 0)
	require.NoError(t, err)
	require.Len(t, found.Hits, sink.DefaultHits)
	assert.Equal(t, "order-98", found.Hits[0].OrderID, "the latest first")
	for _, query := range []string{`"`, `amount:>x`, `created:>"yesterday"`, "+", "a:b:\""} {
		_, err := s.Search(t.Context(), query, 1)
		require.ErrorIs(t, err, sink.ErrQuery, query)
	}
	_, err = s.Search(t.Context(), "/(/", 1)
	require.Error(t, err)
	ended, end := context.WithCancel(t.Context())
	end()
	_, err = s.Search(ended, "", 1)
	require.ErrorIs(t, err, context.Canceled)
}

// Whatever the order in which what is known of an order comes, and whether or not something comes twice, it ends the same.
func TestSearchOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	s := openSearch(t, folder(t).Dir)
	defer func() { require.NoError(t, s.Close(t.Context())) }()
	var group errgroup.Group
	for n, way := range ways(3, 4) {
		group.Go(func() error {
			o := orderOf(n)
			created := history(1)[0]
			shipped, cancelled := created, created
			created.Data = []byte(text(o))
			shipped.Type, shipped.Data = shop.OrderShipped, []byte(text(shop.Decision{Order: o, Reference: "there"}))
			cancelled.Type, cancelled.Data = shop.OrderCancelled, []byte(text(shop.Decision{Order: o}))
			for _, i := range way {
				if err := s.Handle(t.Context(), delivery([]event.Event{created, shipped, cancelled}, i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	for n, way := range ways(3, 4) {
		o := orderOf(n)
		found, err := s.Search(t.Context(), "id:"+o.OrderID, 2)
		require.NoError(t, err)
		require.Len(t, found.Hits, 1)
		hit := found.Hits[0]
		hit.SKUs = nil
		assert.Equal(t, sink.Hit{
			OrderID: o.OrderID, UserID: o.UserID, Status: sink.StatusShipped, Amount: o.Amount, Created: began, Tracking: "there",
		}, hit, "%v", way)
	}
}

// ways are the sequences of so many things, up to a length, that have all of them.
func ways(things, longest int) (all [][]int) {
	next := [][]int{{}}
	for range longest {
		var longer [][]int
		for _, way := range next {
			for i := range things {
				longer = append(longer, append(slices.Clone(way), i))
			}
		}
		next = longer
		for _, way := range next {
			if len(slices.Compact(slices.Sorted(slices.Values(way)))) == things {
				all = append(all, way)
			}
		}
	}
	return all
}

// An index that a process was killed in the middle of making is made again; one that is damaged is told.
func TestSearchHalfMade(t *testing.T) {
	t.Parallel()
	at := folder(t)
	require.NoError(t, os.MkdirAll(filepath.Join(at.Dir, "orders.bleve.new", "store"), 0o700))
	s := openSearch(t, at.Dir)
	require.NoError(t, s.Handle(t.Context(), delivery(history(1), 0)))
	require.NoError(t, s.Close(t.Context()))
	require.NoError(t, os.WriteFile(filepath.Join(at.Dir, "orders.bleve", "index_meta.json"), []byte("{"), 0o600))
	_, err := sink.OpenSearch(t.Context(), sink.SearchConfig{Dir: at.Dir})
	require.ErrorIs(t, err, sink.ErrDamaged)
	_, err = sink.OpenSearch(t.Context(), sink.SearchConfig{})
	require.ErrorContains(t, err, "no folder")
}
