package api

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/problem"
	"github.com/evdemo/evdemo/internal/shop/view"
)

// retryAfter is what clients are told to wait while the database is away.
const retryAfter = 2 * time.Second

// retryIn sets Retry-After, in whole seconds and at least one.
func retryIn(w http.ResponseWriter, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
}

func tooMany(w http.ResponseWriter, r *http.Request, wait time.Duration) {
	retryIn(w, wait)
	problem.Write(w, r, http.StatusTooManyRequests, "", "There are more requests than are answered. Make it again later.", nil)
}

func unknownOrder(w http.ResponseWriter, r *http.Request) {
	problem.Write(w, r, http.StatusNotFound, "Order not found", "There is no such order. One that was just placed is there "+
		"once the view has seen it: ask with ?wait=VERSION, the version that placing it has answered.", nil)
}

func internalError(w http.ResponseWriter, r *http.Request) {
	problem.Write(w, r, http.StatusInternalServerError, "", "That is a mistake of this program, and in its log.", nil)
}

func badRequest(w http.ResponseWriter, r *http.Request, title, detail string) {
	problem.Write(w, r, http.StatusBadRequest, title, detail, nil)
}

// readFailed answers a request whose reading of the database failed.
func (a *API) readFailed(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, view.ErrUnknown):
		unknownOrder(w, r)
	case damaged(err):
		a.config.Logger.ErrorContext(r.Context(), "api: an order cannot be read", slog.String("path", r.URL.Path), slog.Any("error", err))
		internalError(w, r)
	default:
		a.away(w, r, err, "The database cannot be read from now. Make the request again.")
	}
}

func damaged(err error) bool {
	_, is := errors.AsType[*eventstore.DamagedError](err)
	return is
}

// away says that the database is away, or the program about to be.
func (a *API) away(w http.ResponseWriter, r *http.Request, err error, detail string) {
	a.config.Logger.Log(r.Context(), levelOf(r), "api: the database is away", slog.String("path", r.URL.Path), slog.Any("error", err))
	retryIn(w, retryAfter)
	problem.Write(w, r, http.StatusServiceUnavailable, "Database away", detail, nil)
}

// levelOf is how loud trouble is told of that may be none: where the client has gone, which ends what was under way.
func levelOf(r *http.Request) slog.Level {
	if r.Context().Err() != nil {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// notPlaced answers a request whose order could not be appended.
func (a *API) notPlaced(w http.ResponseWriter, r *http.Request, id string, err error) {
	switch {
	case errors.Is(err, eventstore.ErrOutcomeUnknown):
		a.config.Logger.Log(r.Context(), levelOf(r), "api: it is not known whether an order was stored", slog.String("order", id), slog.Any("error", err))
		retryIn(w, retryAfter)
		problem.Write(w, r, http.StatusServiceUnavailable, "Outcome unknown", "It is not known whether the order was stored. Make the same "+
			"request again with the same Idempotency-Key: it will not be stored twice. Without a key, look for it at its link first.",
			map[string]any{"order_id": id, "links": map[string]string{"self": ordersPath + id}})
	case view.Away(err), errors.Is(err, eventstore.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		a.away(w, r, err, "The order was not stored, and will not be. Make the request again.")
	default:
		a.config.Logger.ErrorContext(r.Context(), "api: an order could not be stored", slog.String("order", id), slog.Any("error", err))
		internalError(w, r)
	}
}
