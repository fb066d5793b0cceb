package api

import (
	"bytes"
	"log/slog"
	"net/http"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/problem"
)

// ReadOrder reads a POST of an order for those who take orders by other ways than this API, and gives what is to be appended
// for it. What is wrong with the request is answered, by the same rules, and ok is false. The same Idempotency-Key is the
// same stream.
func ReadOrder(w http.ResponseWriter, r *http.Request, maxBody int64) (placed eventstore.StreamWrite, ok bool) {
	a := &API{config: Config{MaxBody: maxBody, ReadTimeout: DefaultReadTimeout, Logger: slog.New(slog.DiscardHandler)}}
	if !a.takesBody(w, r) {
		return placed, false
	}
	key, err := keyOf(r.Header)
	if err != nil {
		badRequest(w, r, "Idempotency-Key not valid", "The header Idempotency-Key: "+err.Error()+".")
		return placed, false
	}
	var body bytes.Buffer
	if !a.readBody(w, r, &body) {
		return placed, false
	}
	q, bad := parse(body.Bytes())
	if bad == nil {
		hash := ""
		if key != "" {
			hash = q.hash()
		}
		if placed, err = q.write(newOrderID(key), hash); err == nil {
			return placed, true
		}
		bad = &problem.Problem{Status: http.StatusInternalServerError, Detail: "The order cannot be written as an event."}
	}
	bad.Write(w, r)
	return placed, false
}
