package synchronous

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/api"
	"github.com/evdemo/evdemo/internal/shop/problem"
)

const (
	ordersPath = "/api/orders"
	maxID      = 128 // bytes
	retryAfter = "2" // seconds
)

// desk is where customers are: POST /api/orders places an order and answers when it has come to its end, GET /api/orders/ID
// tells how far it is.
type desk struct {
	orders *orders
	// working is the context of the work that customers wait for, background of what is finished later: both outlive requests.
	working, background context.Context
}

// ServeHTTP implements http.Handler.
func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, one := strings.CutPrefix(r.URL.Path, ordersPath+"/")
	method := http.MethodGet
	switch {
	case r.URL.Path == ordersPath:
		method = http.MethodPost
	case !one || id == "" || strings.Contains(id, "/"):
		problem.Write(w, r, http.StatusNotFound, "", "There is nothing here but "+ordersPath+" and "+ordersPath+"/ID.", nil)
		return
	}
	switch {
	case r.Method != method:
		w.Header().Set("Allow", method)
		problem.Write(w, r, http.StatusMethodNotAllowed, "", "Here this takes "+method+".", nil)
	case method == http.MethodPost:
		d.place(w, r)
	default:
		d.look(w, r, id)
	}
}

// place answers POST /api/orders, when it can.
func (d *desk) place(w http.ResponseWriter, r *http.Request) {
	placed, ok := api.ReadOrder(w, r, api.DefaultMaxBody)
	if !ok {
		return
	}
	api.Patient(w)
	v, first := d.orders.visit(d.working, d.background, placed) //nolint:contextcheck // it outlives the request
	if v == nil {
		w.Header().Set("Retry-After", retryAfter)
		problem.Write(w, r, http.StatusServiceUnavailable, "Too many customers",
			fmt.Sprintf("No more than %d customers may wait at a time, and none when the shop closes. The order was not stored: "+
				"make the request again later.", d.orders.config.Customers), nil)
		return
	}
	select {
	case <-v.done:
	case <-r.Context().Done(): // the order goes on without its customer
		return
	}
	result := v.result
	if !first {
		result.replayed, result.other = true, !sameOrder(v.placed.Events[0], placed.Events[0])
	}
	d.answer(w, r, &result)
}

// placed is the answer to an order that has come to its end, and to the question how far it is.
type placed struct {
	ID     string            `json:"id"`
	Status Status            `json:"status"`
	Reason string            `json:"reason,omitempty"`
	Calls  []Call            `json:"calls,omitempty"`
	Links  map[string]string `json:"links"`
}

func links(id string) map[string]string { return map[string]string{"self": ordersPath + "/" + id} }

func (d *desk) answer(w http.ResponseWriter, r *http.Request, result *result) {
	switch {
	case result.other:
		problem.Write(w, r, http.StatusUnprocessableEntity, "Idempotency-Key used",
			"Another request has had this Idempotency-Key. A new request takes a new key.", nil)
		return
	case result.trouble != nil:
		d.failed(w, r, result)
		return
	}
	if result.replayed {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	if result.status != Shipped && result.status != Cancelled {
		w.Header().Set("Retry-After", retryAfter)
		problem.Write(w, r, http.StatusServiceUnavailable, "Order not finished",
			"The order was placed by an earlier request, and is worked on still.",
			map[string]any{"order_id": result.id, "order_status": result.status, "links": links(result.id)})
		return
	}
	w.Header().Set("Location", ordersPath+"/"+result.id)
	d.json(w, r, http.StatusCreated, placed{result.id, result.status, result.reason, result.calls, links(result.id)})
}

// failed answers a customer who has waited for nothing.
func (d *desk) failed(w http.ResponseWriter, r *http.Request, result *result) {
	status, title := http.StatusServiceUnavailable, "Database away"
	call, called := errors.AsType[*CallError](result.trouble)
	detail := "The database cannot be reached, or the program is about to end. "
	if called {
		title, detail = "Service away", fmt.Sprintf("The service %s, at attempt %d. ", call.Short(), call.Attempts)
		if call.Timeout {
			status, title = http.StatusGatewayTimeout, "Service too slow"
		}
	}
	extra := map[string]any{"order_id": result.id, "order_status": result.status, "links": links(result.id)}
	switch {
	case errors.Is(result.trouble, eventstore.ErrOutcomeUnknown) && !result.stored:
		detail += "It is not known whether the order was stored; if so, it is called off."
	case !result.stored:
		detail += "The order was not stored."
		w.Header().Set("Retry-After", retryAfter)
		extra = nil
	default:
		detail += meaning(result.status)
		extra["calls"] = result.calls
	}
	d.orders.config.Logger.WarnContext(r.Context(), "shop: an order has failed", slog.String("order", result.id),
		slog.String("status", string(result.status)), slog.Any("error", result.trouble))
	problem.Write(w, r, status, title, detail, extra)
}

// meaning is what the status of an order means to a customer who got an error.
func meaning(status Status) string {
	switch status {
	case "":
		return "What became of the order cannot be told now: make the request again."
	case Shipped:
		return "The order is on its way all the same: do not place it again."
	case Cancelled:
		return "The order is cancelled, and what was paid is given back."
	case Shipping:
		return "Nobody knows whether the order is shipped: look at it again before you place another."
	default:
		return "The order is being cancelled: what was paid is given back as soon as that can be done."
	}
}

// look answers GET /api/orders/ID.
func (d *desk) look(w http.ResponseWriter, r *http.Request, id string) {
	err := errUnknown
	answer := placed{ID: id, Links: links(id)}
	if mayBeID(id) {
		_, answer.Status, answer.Reason, err = d.orders.look(r.Context(), id)
	}
	switch {
	case err == nil:
		d.json(w, r, http.StatusOK, answer)
	case errors.Is(err, errUnknown), errors.Is(err, eventstore.ErrStreamName):
		problem.Write(w, r, http.StatusNotFound, "Order not found", "There is no such order.", nil)
	default:
		d.orders.config.Logger.WarnContext(r.Context(), "shop: an order cannot be read", slog.String("order", id), slog.Any("error", err))
		w.Header().Set("Retry-After", retryAfter)
		problem.Write(w, r, http.StatusServiceUnavailable, "Database away", "The order cannot be read now. Make the request again.", nil)
	}
}

// mayBeID tells whether an order may have that name. No database takes each string.
func mayBeID(id string) bool {
	return len(id) <= maxID && utf8.ValidString(id) && !strings.ContainsFunc(id, unicode.IsControl)
}

func (d *desk) json(w http.ResponseWriter, r *http.Request, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		d.orders.config.Logger.ErrorContext(r.Context(), "shop: an answer cannot be written", slog.Any("error", err))
		problem.Write(w, r, http.StatusInternalServerError, "", "That is a mistake of this program, and in its log.", nil)
		return
	}
	answer(w, status, "application/json", append(body, '\n'))
}

// answer writes an answer. Who does not take it in time is not waited for.
func answer(w http.ResponseWriter, status int, kind string, body []byte) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // as in patient
	header := w.Header()
	header.Set("Content-Type", kind)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // nobody is left to be told
}
