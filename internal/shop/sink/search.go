package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/analysis/analyzer/keyword"
	"github.com/blevesearch/bleve/v2/mapping"
	"github.com/blevesearch/bleve/v2/search/query"
	index "github.com/blevesearch/bleve_index_api"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/worker"
)

// States of an order.
const (
	StatusPending   = "pending"
	StatusShipped   = "shipped"
	StatusCancelled = "cancelled"
)

const (
	// DefaultHits is how many hits a search gives that does not say.
	DefaultHits = 10
	// MaxHits is how many it gives at most.
	MaxHits = 1000

	searchLock  = "lock"
	searchIndex = "orders.bleve"
	// storedField has all that is known of an order, as JSON. The other fields can be searched only.
	storedField = "order"
	// recentOrders is how many orders are known without asking the index.
	recentOrders = 10_000
)

// SearchConfig says where the index is. Dir is needed.
type SearchConfig struct {
	// Dir is the folder, which is made. It must be on a local disk.
	Dir string
}

// Search is an index of the orders in a folder: one document for each. It is made of facts, and it does not matter in which
// order and how often they come. An order is pending until it is known that it was shipped or cancelled, and then stays
// that; of both, it was shipped.
type Search struct {
	dir    string
	lock   interface{ Unlock() error }
	index  bleve.Index
	facts  *group[orderFact]
	recent *simplelru.LRU[string, Hit] // the goroutine's that writes
	unsure bool                        // a batch has failed: what the index shows may not be on the disk
}

// orderFact is an event and what it says.
type orderFact struct {
	eventType string
	time      time.Time
	decision  shop.Decision
}

// Hit is an order as the index has it.
type Hit struct {
	OrderID string   `json:"order_id"`
	UserID  string   `json:"user_id"`
	SKUs    []string `json:"skus"`
	Status  string   `json:"status"`
	Amount  int      `json:"amount"` // cents
	// Created is the time of order.created; zero as long as that has not come.
	Created time.Time `json:"created,omitzero"`
	// Tracking is the reference of order.shipped.
	Tracking string `json:"tracking,omitempty"`
}

// Found is what a search has found.
type Found struct {
	// Total is how many orders match.
	Total uint64 `json:"total"`
	// Hits are the best of them, and of those that match alike the latest.
	Hits []Hit `json:"hits"`
}

// OpenSearch opens the index, and makes it where there is none. The error wraps [ErrInUse] where another process has it
// open.
func OpenSearch(ctx context.Context, config SearchConfig) (*Search, error) {
	if config.Dir == "" {
		return nil, errors.New("open search index: no folder")
	}
	recent, err := simplelru.NewLRU[string, Hit](recentOrders, nil)
	if err != nil { // for sizes below 1 only
		return nil, err
	}
	s := &Search{dir: config.Dir, recent: recent}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open search index %s: %w", config.Dir, err)
	}
	s.facts = startGroup(ctx, s.write)
	return s, nil
}

func (s *Search) open() error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	lock, err := lockFile(filepath.Join(s.dir, searchLock)) // the index would wait for ever for its own
	if err != nil {
		return err
	}
	s.lock = lock
	path := filepath.Join(s.dir, searchIndex)
	if _, err = os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		err = createIndex(path)
	}
	if err == nil {
		if s.index, err = bleve.Open(path); err != nil {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	if err != nil {
		return errors.Join(err, lock.Unlock())
	}
	return nil
}

// createIndex makes an empty index. It has its name once it is complete.
func createIndex(path string) error {
	half := path + ".new" // what a process that was killed has left is no index
	if err := os.RemoveAll(half); err != nil {
		return err
	}
	made, err := bleve.New(half, orderMapping())
	if err != nil {
		return err
	}
	if err := made.Close(); err != nil {
		return err
	}
	if err := os.Rename(half, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// orderMapping says what is indexed of an order, and how: words as they are, case included.
func orderMapping() mapping.IndexMapping {
	order := bleve.NewDocumentStaticMapping()
	for _, name := range []string{"id", "user", "sku", "status", "tracking"} {
		field := bleve.NewKeywordFieldMapping()
		field.Store, field.IncludeTermVectors = false, true // without, a value in quotes would not be found
		order.AddFieldMappingsAt(name, field)
	}
	amount, created := bleve.NewNumericFieldMapping(), bleve.NewDateTimeFieldMapping()
	amount.Store, created.Store = false, false
	amount.IncludeInAll, created.IncludeInAll = false, false
	order.AddFieldMappingsAt("amount", amount)
	order.AddFieldMappingsAt("created", created)
	stored := bleve.NewKeywordFieldMapping()
	stored.Index, stored.IncludeInAll, stored.IncludeTermVectors, stored.DocValues = false, false, false, false
	order.AddFieldMappingsAt(storedField, stored)
	m := bleve.NewIndexMapping()
	m.DefaultMapping, m.DefaultAnalyzer = order, keyword.Name
	return m
}

// Name implements [Sink].
func (s *Search) Name() string { return SearchName }

// Topics implements [Sink].
func (s *Search) Topics() []string { return Topics(SearchName) }

// Handle implements [Sink].
func (s *Search) Handle(ctx context.Context, d *worker.Delivery) error {
	if err := admit(d); err != nil {
		return err
	}
	switch d.Event.Type {
	case shop.OrderCreated, shop.OrderShipped, shop.OrderCancelled:
	default:
		return worker.ErrSkip
	}
	decision, err := decisionOf(d.Event)
	if err != nil {
		return err
	}
	if err := s.facts.do(ctx, factOf(d.Event, decision)); err != nil {
		return fmt.Errorf("search index %s: %w", s.dir, err)
	}
	return nil
}

func factOf(e event.Event, d shop.Decision) orderFact { return orderFact{e.Type, e.Time, d} }

// write brings what a batch says that the index does not know. It is on the disk when Batch returns.
func (s *Search) write(_ context.Context, batch []orderFact) error {
	changed := map[string]Hit{}
	for _, fact := range batch {
		id := fact.decision.Order.OrderID
		known, ok := changed[id]
		if !ok {
			var err error
			if known, err = s.known(id); err != nil {
				return err
			}
		}
		if now := known.with(fact); s.unsure || !now.equal(known) {
			changed[id] = now
		}
	}
	if len(changed) == 0 {
		return nil
	}
	docs := s.index.NewBatch()
	for id, hit := range changed {
		if err := docs.Index(id, hit.document()); err != nil {
			return err
		}
	}
	if err := s.index.Batch(docs); err != nil {
		s.unsure = true
		s.recent.Purge()
		return err
	}
	s.unsure = false
	for id, hit := range changed {
		s.recent.Add(id, hit)
	}
	return nil
}

// known gives what the index has of an order; an order of which it knows nothing has no status.
func (s *Search) known(id string) (Hit, error) {
	if hit, ok := s.recent.Get(id); ok {
		return hit, nil
	}
	doc, err := s.index.Document(id)
	if err != nil || doc == nil {
		return Hit{}, err
	}
	var hit Hit
	doc.VisitFields(func(field index.Field) {
		if field.Name() == storedField {
			err = json.Unmarshal(field.Value(), &hit)
		}
	})
	return hit, err
}

// with adds a fact. The order itself is what order.created says; before that has come, what others say of it.
func (h Hit) with(f orderFact) Hit {
	order := f.decision.Order
	if f.eventType == shop.OrderCreated || h.Created.IsZero() {
		h.OrderID, h.UserID, h.Amount = order.OrderID, order.UserID, order.Amount
		h.SKUs = make([]string, 0, len(order.Items))
		for _, item := range order.Items {
			h.SKUs = append(h.SKUs, item.SKU)
		}
		slices.Sort(h.SKUs)
		h.SKUs = slices.Compact(h.SKUs)
	}
	switch f.eventType {
	case shop.OrderCreated:
		h.Created = f.time
		if h.Status == "" {
			h.Status = StatusPending
		}
	case shop.OrderShipped:
		h.Status, h.Tracking = StatusShipped, f.decision.Reference
	case shop.OrderCancelled:
		if h.Status != StatusShipped {
			h.Status = StatusCancelled
		}
	}
	return h
}

func (h Hit) equal(other Hit) bool {
	return h.OrderID == other.OrderID && h.UserID == other.UserID && slices.Equal(h.SKUs, other.SKUs) && h.Status == other.Status &&
		h.Amount == other.Amount && h.Created.Equal(other.Created) && h.Tracking == other.Tracking
}

// document is what is indexed.
func (h Hit) document() map[string]any {
	stored, _ := json.Marshal(h) // it can be
	doc := map[string]any{
		"id": h.OrderID, "user": h.UserID, "sku": h.SKUs, "status": h.Status, "amount": float64(h.Amount), "tracking": h.Tracking,
		storedField: string(stored),
	}
	if !h.Created.IsZero() {
		doc["created"] = h.Created
	}
	return doc
}

// Search finds orders by a query in the syntax of bleve (https://blevesearch.com/docs/Query-String-Query/): words, which
// are looked for in all fields but amount and created, or field:value with the fields id, user, sku, status, amount,
// created and tracking. What begins with + must match, what begins with - must not, and of the rest one must:
//
//	+status:shipped +user:user-7 -sku:item-3
//	+amount:>=5000 +created:>"2026-03-31T00:00:00Z"
//
// Values are compared as they are written, case included; * and ? stand for others. An empty query matches all orders.
// No more than limit hits are given: [DefaultHits] for 0 or less, and [MaxHits] at most. The error wraps [ErrQuery] where
// the query cannot be read. The search ends with ctx.
func (s *Search) Search(ctx context.Context, text string, limit int) (Found, error) {
	if limit <= 0 {
		limit = DefaultHits
	}
	var q query.Query = bleve.NewMatchAllQuery()
	if text != "" {
		q = bleve.NewQueryStringQuery(text)
		if err := bleve.NewQueryStringQuery(text).Validate(); err != nil {
			return Found{}, fmt.Errorf("%w: %w", ErrQuery, err)
		}
	}
	request := bleve.NewSearchRequestOptions(q, min(limit, MaxHits), 0, false)
	request.Fields = []string{storedField}
	request.SortBy([]string{"-_score", "-created", "_id"})
	result, err := s.index.SearchInContext(ctx, request)
	if err != nil {
		return Found{}, fmt.Errorf("search: %w", err)
	}
	found := Found{Total: result.Total, Hits: make([]Hit, 0, len(result.Hits))}
	for _, match := range result.Hits {
		var hit Hit
		stored, _ := match.Fields[storedField].(string)
		if err := json.Unmarshal([]byte(stored), &hit); err != nil {
			return Found{}, fmt.Errorf("search: order %s: %w: %w", match.ID, ErrDamaged, err)
		}
		found.Hits = append(found.Hits, hit)
	}
	return found, nil
}

// Close implements [Sink].
func (s *Search) Close(context.Context) error {
	s.facts.close()
	if err := errors.Join(s.index.Close(), s.lock.Unlock()); err != nil {
		return fmt.Errorf("close search index %s: %w", s.dir, err)
	}
	return nil
}
