package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"strconv"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/problem"
)

const ordersPath = "/api/orders/"

// place answers POST /api/orders.
func (a *API) place(w http.ResponseWriter, r *http.Request) {
	if !a.takesBody(w, r) {
		return
	}
	key, err := keyOf(r.Header)
	if err != nil {
		badRequest(w, r, "Idempotency-Key not valid", "The header Idempotency-Key: "+err.Error()+".")
		return
	}
	buffer, _ := a.buffers.Get().(*bytes.Buffer)
	defer a.buffers.Put(buffer)
	buffer.Reset()
	if !a.readBody(w, r, buffer) {
		return
	}
	q, bad := parse(buffer.Bytes())
	if bad != nil {
		bad.Write(w, r)
		return
	}
	a.append(w, r, q, key)
}

// takesBody looks at what the headers say of the body.
func (a *API) takesBody(w http.ResponseWriter, r *http.Request) bool {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		w.Header().Set("Accept-Encoding", "identity")
		problem.Write(w, r, http.StatusUnsupportedMediaType, "", "The body must not be compressed.", nil)
		return false
	}
	kind := r.Header.Get("Content-Type")
	if kind != "application/json" { // which most say, in these letters
		if media, parameters, err := mime.ParseMediaType(kind); err != nil || media != "application/json" || !isUTF8(parameters["charset"]) {
			w.Header().Set("Accept-Post", "application/json")
			problem.Write(w, r, http.StatusUnsupportedMediaType, "", "The body must be JSON, and Content-Type say so: application/json.", nil)
			return false
		}
	}
	if r.ContentLength > a.config.MaxBody {
		a.tooLarge(w, r)
		return false
	}
	return true
}

func isUTF8(charset string) bool {
	switch charset {
	case "", "utf-8", "UTF-8", "utf8":
		return true
	default:
		return false
	}
}

func (a *API) tooLarge(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close") // the rest of it is not read
	problem.Write(w, r, http.StatusRequestEntityTooLarge, "", fmt.Sprintf("A body may have %d bytes.", a.config.MaxBody), nil)
}

func (a *API) readBody(w http.ResponseWriter, r *http.Request, into *bytes.Buffer) bool {
	n, err := into.ReadFrom(io.LimitReader(r.Body, a.config.MaxBody+1))
	switch {
	case err == nil && n > a.config.MaxBody:
		a.tooLarge(w, r)
	case err == nil:
		return true
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		problem.Write(w, r, http.StatusRequestTimeout, "", fmt.Sprintf("The request took longer than %v to come in.", a.config.ReadTimeout), nil)
	default:
		badRequest(w, r, "Body cannot be read", "It ends before it should, or is not chunked as it should be.")
	}
	return false
}

// append stores the order.
func (a *API) append(w http.ResponseWriter, r *http.Request, q *request, key string) {
	id := newOrderID(key)
	hash := ""
	if key != "" {
		hash = q.hash()
	}
	write, err := q.write(id, hash)
	if err != nil {
		a.notPlaced(w, r, id, err)
		return
	}
	Patient(w)
	ctx, cancel := context.WithTimeout(r.Context(), a.config.AppendTimeout)
	defer cancel()
	appended, err := a.config.Store.Append(ctx, write)
	if _, conflict := errors.AsType[*eventstore.ConflictError](err); conflict && key != "" {
		a.again(ctx, w, r, id, hash)
		return
	}
	if err != nil {
		a.notPlaced(w, r, id, err)
		return
	}
	accepted(w, id, appended.Positions[0])
}

// write is what is to be appended for the order.
func (q *request) write(id, hash string) (eventstore.StreamWrite, error) {
	order := shop.Order{OrderID: id, UserID: q.userID, Items: make([]shop.Item, len(q.lines)), Currency: shop.Currency}
	for i, l := range q.lines {
		order.Items[i] = shop.Item{SKU: l.sku, Quantity: l.quantity, Price: l.price}
		order.Amount += l.quantity * l.price
	}
	write, err := shop.Placed(order)
	if err == nil && hash != "" {
		write.Events[0] = write.Events[0].WithExtension(extRequestHash, hash)
	}
	return write, err
}

// again answers a request whose key has been used: as the first time where it is the same request.
func (a *API) again(ctx context.Context, w http.ResponseWriter, r *http.Request, id, hash string) {
	for before, err := range a.config.Store.Read(ctx, eventstore.Query{Stream: id, Limit: 1}) {
		switch {
		case err != nil:
			a.readFailed(w, r, err)
		case before.Extension(extRequestHash) != hash:
			problem.Write(w, r, http.StatusUnprocessableEntity, "Idempotency-Key used", "Another request has had this Idempotency-Key. "+
				"A new request takes a new key.", nil)
		default:
			w.Header().Set("Idempotency-Replayed", "true")
			accepted(w, id, before.Position)
		}
		return
	}
	a.config.Logger.ErrorContext(ctx, "api: a stream that should have events has none", slog.String("order", id))
	internalError(w, r)
}

// accepted says that the order is stored.
func accepted(w http.ResponseWriter, id string, version int64) {
	self := ordersPath + id
	v := strconv.FormatInt(version, 10)
	body := make([]byte, 0, 320) // more than it has
	body = append(append(append(body, `{"id":"`...), id...), `","version":`...)
	body = append(append(body, v...), `,"status":"pending","links":{"self":"`...)
	body = append(append(append(body, self...), `","wait":"`...), self...)
	body = append(append(append(body, `?wait=`...), v...), `","history":"`...)
	body = append(append(body, self...), "/history\"}}\n"...)
	header := w.Header()
	header.Set("Location", self)
	answer(w, http.StatusAccepted, body)
}

// answer writes an answer of JSON.
func answer(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("X-Content-Type-Options", "nosniff")
	if header.Get("Cache-Control") == "" {
		header.Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // nobody is left to be told
}

// answerJSON writes a value.
func (a *API) answerJSON(w http.ResponseWriter, r *http.Request, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		a.config.Logger.ErrorContext(r.Context(), "api: an answer cannot be written", slog.Any("error", err))
		internalError(w, r)
		return
	}
	answer(w, http.StatusOK, append(body, '\n'))
}
