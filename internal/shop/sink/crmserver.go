package sink

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/shop/problem"
	"github.com/evdemo/evdemo/internal/sqlitefile"
)

const (
	maxChange = 64 << 10
	// customersPage is how many customers an answer has at most.
	customersPage = 1000
)

const crmSchema = `
CREATE TABLE customers (
	user_id   TEXT PRIMARY KEY,
	placed    INTEGER NOT NULL,
	shipped   INTEGER NOT NULL,
	cancelled INTEGER NOT NULL,
	spent     INTEGER NOT NULL,
	points    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE changes (
	source  TEXT NOT NULL,
	id      TEXT NOT NULL,
	user_id TEXT NOT NULL,
	PRIMARY KEY (source, id)
) STRICT, WITHOUT ROWID`

// Customer is what the CRM knows of one. Spent is in cents, less what was given back.
type Customer struct {
	UserID    string `json:"user_id"`
	Placed    int64  `json:"orders_placed"`
	Shipped   int64  `json:"orders_shipped"`
	Cancelled int64  `json:"orders_cancelled"`
	Spent     int64  `json:"spent"`
	Points    int64  `json:"points"`
}

// CRMServer stands in for a CRM: an http.Handler with its state in an SQLite file.
//
//	PUT /customers/{user_id}   adds a CustomerChange, once for each event: an event that it knows is answered likewise, with
//	                           the header Idempotency-Replayed, and changes nothing
//	GET /customers/{user_id}   gives the customer
//	GET /customers?after=ID    gives up to 1000 customers, in the order of their ids
//
// What was answered with 2xx is on the disk. Errors are problem+json.
type CRMServer struct {
	db      *database
	changes *group[*customerPut]
}

// customerPut is a change that is to be made.
type customerPut struct {
	CustomerChange

	user             string
	replayed, others bool // the event was there, and was another customer's
}

// OpenCRMServer opens the file, and makes it where there is none. The error wraps [ErrInUse] where another process has it
// open.
func OpenCRMServer(ctx context.Context, path string) (*CRMServer, error) {
	if path == "" {
		return nil, errors.New("open CRM stand-in: no database")
	}
	db, err := openDatabase(ctx, path, crmSchema)
	if err != nil {
		return nil, fmt.Errorf("open CRM stand-in %s: %w", path, err)
	}
	s := &CRMServer{db: db}
	s.changes = startGroup(ctx, s.write)
	return s, nil
}

// Close finishes what was begun and closes the file. Shut the HTTP server down before.
func (s *CRMServer) Close() error {
	s.changes.close()
	return s.db.Close()
}

// ServeHTTP implements http.Handler. It does not clean paths, as a mux would: a customer may be called anything.
func (s *CRMServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	escaped, one := strings.CutPrefix(r.URL.EscapedPath(), "/customers/")
	user, err := url.PathUnescape(escaped)
	switch {
	case r.URL.Path == "/customers" && r.Method == http.MethodGet:
		s.list(w, r)
	case r.URL.Path == "/customers":
		wrongMethod(w, r, "GET")
	case !one || err != nil || strings.Contains(escaped, "/"):
		problem.Write(w, r, http.StatusNotFound, "not found", "there are /customers and /customers/{user_id}", nil)
	case r.Method == http.MethodGet:
		s.get(w, r, user)
	case r.Method == http.MethodPut:
		s.put(w, r, user)
	default:
		wrongMethod(w, r, "GET, PUT")
	}
}

func wrongMethod(w http.ResponseWriter, r *http.Request, allowed string) {
	w.Header().Set("Allow", allowed)
	problem.Write(w, r, http.StatusMethodNotAllowed, "method not allowed", "allowed: "+allowed, nil)
}

func (s *CRMServer) put(w http.ResponseWriter, r *http.Request, user string) {
	change := &customerPut{user: user}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxChange))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		problem.Write(w, r, http.StatusRequestEntityTooLarge, "too large", fmt.Sprintf("a change has %d bytes at most", maxChange), nil)
		return
	}
	if err == nil {
		err = json.Unmarshal(body, &change.CustomerChange)
	}
	if err = errors.Join(err, change.check()); err != nil {
		problem.Write(w, r, http.StatusBadRequest, "not a change", err.Error(), nil)
		return
	}
	if err := s.changes.do(r.Context(), change); err != nil {
		w.Header().Set("Retry-After", "1")
		problem.Write(w, r, http.StatusServiceUnavailable, "not stored", err.Error(), nil)
		return
	}
	if change.others {
		problem.Write(w, r, http.StatusConflict, "event is another customer's", "the event has changed another customer before", nil)
		return
	}
	if change.replayed {
		w.Header().Set(headerReplayed, "true")
	}
	w.WriteHeader(http.StatusNoContent)
}

// check finds what cannot be right.
func (c *customerPut) check() error {
	refund := c.Spent
	if refund < 0 {
		refund = -refund
	}
	return errors.Join(
		checkName("user_id", c.user), checkText("event_source", c.EventSource, maxAttribute), checkText("event_id", c.EventID, maxAttribute),
		within("orders_placed", c.Placed, maxQuantity), within("orders_shipped", c.Shipped, maxQuantity),
		within("orders_cancelled", c.Cancelled, maxQuantity), within("spent", refund, maxAmount), within("points", c.Points, maxAmount),
	)
}

// write makes a batch of changes.
func (s *CRMServer) write(ctx context.Context, batch []*customerPut) error {
	err := transact(ctx, s.db.DB, func(tx *sql.Tx) error {
		remember, err := tx.PrepareContext(ctx, `INSERT INTO changes (source, id, user_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`)
		if err != nil {
			return err
		}
		defer remember.Close()
		add, err := tx.PrepareContext(ctx, `INSERT INTO customers AS c VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
			placed = c.placed + excluded.placed, shipped = c.shipped + excluded.shipped, cancelled = c.cancelled + excluded.cancelled,
			spent = c.spent + excluded.spent, points = c.points + excluded.points`)
		if err != nil {
			return err
		}
		defer add.Close()
		for _, put := range batch {
			if err := put.write(ctx, tx, remember, add); err != nil {
				return err
			}
		}
		return nil
	})
	return sqlitefile.Explain(err)
}

func (c *customerPut) write(ctx context.Context, tx *sql.Tx, remember, add *sql.Stmt) error {
	result, err := remember.ExecContext(ctx, c.EventSource, c.EventID, c.user)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return err
	}
	if c.replayed = n == 0; c.replayed {
		const of = `SELECT user_id <> ? FROM changes WHERE source = ? AND id = ?`
		return tx.QueryRowContext(ctx, of, c.user, c.EventSource, c.EventID).Scan(&c.others)
	}
	_, err = add.ExecContext(ctx, c.user, c.Placed, c.Shipped, c.Cancelled, c.Spent, c.Points)
	return err
}

const selectCustomers = `SELECT user_id, placed, shipped, cancelled, spent, points FROM customers `

func scanCustomer(rows *sql.Rows, c *Customer) error {
	return rows.Scan(&c.UserID, &c.Placed, &c.Shipped, &c.Cancelled, &c.Spent, &c.Points)
}

func (s *CRMServer) get(w http.ResponseWriter, r *http.Request, user string) {
	found, err := collect(r.Context(), s.db.DB, selectCustomers+`WHERE user_id = ?`, scanCustomer, user)
	switch {
	case err != nil:
		unreadable(w, r, err)
	case len(found) == 0:
		problem.Write(w, r, http.StatusNotFound, "no such customer", "no event has been of this customer", nil)
	default:
		writeJSON(w, found[0])
	}
}

func (s *CRMServer) list(w http.ResponseWriter, r *http.Request) {
	customers, err := s.Customers(r.Context(), r.URL.Query().Get("after"))
	if err != nil {
		unreadable(w, r, err)
		return
	}
	writeJSON(w, customers)
}

// Customers gives up to 1000 customers behind an id, in the order of their ids.
func (s *CRMServer) Customers(ctx context.Context, after string) ([]Customer, error) {
	const page = selectCustomers + `WHERE user_id > ? ORDER BY user_id LIMIT ?`
	customers, err := collect(ctx, s.db.DB, page, scanCustomer, after, customersPage)
	if customers == nil {
		customers = []Customer{}
	}
	return customers, err
}

func unreadable(w http.ResponseWriter, r *http.Request, err error) {
	problem.Write(w, r, http.StatusInternalServerError, "cannot be read", err.Error(), nil)
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", event.ContentTypeJSON)
	_ = json.NewEncoder(w).Encode(value) // a client that has gone has no use for it
}
