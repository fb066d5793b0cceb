package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evdemo/evdemo/internal/shop/problem"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/internal/shop/view"
)

const (
	// defaultWait and maxWait are for how long ?wait=VERSION waits.
	defaultWait = 10 * time.Second
	maxWait     = 30 * time.Second
	// clockSkew is how far a client's clock may be ahead.
	clockSkew = time.Minute
)

// asked is what the query of GET /api/orders/{id} asks for.
type asked struct {
	wait    int64 // 0 where not
	timeout time.Duration
	asOf    time.Time
}

// get answers GET /api/orders/{id}.
func (a *API) get(w http.ResponseWriter, r *http.Request, id string) {
	q, err := askedIn(r.URL.RawQuery)
	if err != nil {
		badRequest(w, r, "Query not valid", "The query: "+err.Error()+".")
		return
	}
	if !q.asOf.IsZero() {
		a.asOf(w, r, id, q.asOf)
		return
	}
	if q.wait > 0 && !a.waited(w, r, q) {
		return
	}
	found, err := a.find(r.Context(), id, q.wait == 0)
	if err != nil {
		a.readFailed(w, r, err)
		return
	}
	if !unchanged(w, r, found.Version) {
		answer(w, http.StatusOK, append(slices.Clip(found.State), '\n'))
	}
}

// find looks into the cache, if there is one, and into the view. A cache that fails is as good as none.
func (a *API) find(ctx context.Context, id string, cached bool) (view.Found, error) {
	cache := a.config.Cache
	if cache == nil {
		return a.config.Orders.Get(ctx, id)
	}
	if cached {
		if value, ok, err := cache.Get(ctx, sink.OrderKey(id)); err == nil && ok {
			return view.Found{Version: value.Position, State: value.Data}, nil
		}
	}
	found, err := a.config.Orders.Get(ctx, id)
	if err == nil {
		if _, err := cache.Set(ctx, sink.OrderKey(id), sink.Cached{Data: found.State, Position: found.Version}); err != nil {
			a.config.Logger.WarnContext(ctx, "api: an order cannot be cached", slog.Any("error", err))
		}
	}
	return found, err
}

// asOf answers with the order of an earlier time.
func (a *API) asOf(w http.ResponseWriter, r *http.Request, id string, at time.Time) {
	order, err := a.config.Orders.AsOf(r.Context(), id, at)
	switch {
	case errors.Is(err, view.ErrNotYet):
		problem.Write(w, r, http.StatusNotFound, "Order not there yet", "At that time there was no such order yet: "+err.Error()+".", nil)
	case err != nil:
		a.readFailed(w, r, err)
	case !unchanged(w, r, order.Version):
		a.answerJSON(w, r, order)
	}
}

// history answers GET /api/orders/{id}/history.
func (a *API) history(w http.ResponseWriter, r *http.Request, id string) {
	if r.URL.RawQuery != "" {
		badRequest(w, r, "Query not valid", "A history takes no query.")
		return
	}
	history, err := a.config.Orders.History(r.Context(), id)
	if err != nil {
		a.readFailed(w, r, err)
		return
	}
	if !unchanged(w, r, history.Steps[len(history.Steps)-1].Position) {
		a.answerJSON(w, r, history)
	}
}

// unchanged sets the ETag, and answers a request for what the client has already.
func unchanged(w http.ResponseWriter, r *http.Request, version int64) bool {
	tag := `"` + strconv.FormatInt(version, 10) + `"`
	header := w.Header()
	header.Set("Etag", tag)
	header.Set("Cache-Control", "no-cache") // which asks every time whether it is still so
	if !matches(r.Header.Values("If-None-Match"), tag) {
		return false
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}

// matches compares as RFC 9110, section 13.1.2, has it: weakly, against a list, or with any.
func matches(values []string, tag string) bool {
	for _, value := range values {
		for one := range strings.SplitSeq(value, ",") { // no tag of ours has a comma in it
			if one = strings.Trim(one, " \t"); one == "*" || strings.TrimPrefix(one, "W/") == tag {
				return true
			}
		}
	}
	return false
}

// waited waits until the view has seen a version.
func (a *API) waited(w http.ResponseWriter, r *http.Request, q asked) bool {
	if r.ContentLength != 0 { // net/http would wait for a body before it answers, now for ever
		w.Header().Set("Connection", "close")
	}
	Patient(w)
	ctx, cancel := context.WithTimeout(r.Context(), q.timeout)
	defer cancel()
	stop := context.AfterFunc(a.draining, cancel) //nolint:contextcheck // the server's, which ends with that
	defer stop()
	err := a.config.Orders.Wait(ctx, q.wait)
	if err == nil {
		return true
	}
	retryIn(w, time.Second)
	switch {
	case a.draining.Err() != nil:
		problem.Write(w, r, http.StatusServiceUnavailable, "Shutting down", "This server ends. Another may answer.", nil)
	case errors.Is(err, view.ErrTooMany):
		problem.Write(w, r, http.StatusServiceUnavailable, "Too many waiting", "Too many requests wait for a version already.", nil)
	default:
		problem.Write(w, r, http.StatusGatewayTimeout, "Version not seen", fmt.Sprintf("The view has not seen version %d within %v. "+
			"Ask again; without wait there is an answer as far as the view has come.", q.wait, q.timeout), nil)
	}
	return false
}

// askedIn reads a query. What it does not know it refuses: a misspelt as_of would be answered with another time's state.
func askedIn(raw string) (q asked, err error) {
	q.timeout = defaultWait
	if raw == "" {
		return q, nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, errors.New("it cannot be read: a percent sign is followed by two hexadecimal digits, and an ampersand is between parameters")
	}
	for name, all := range values {
		if len(all) > 1 {
			return q, fmt.Errorf("%.40q is there more than once", name)
		}
		switch name {
		case "wait":
			err = q.setWait(all[0])
		case "timeout":
			err = q.setTimeout(all[0])
		case "as_of":
			err = q.setAsOf(all[0])
		default:
			err = fmt.Errorf("%.40q is not known here: there are wait, timeout and as_of", name)
		}
		if err != nil {
			return q, err
		}
	}
	switch {
	case values.Has("timeout") && q.wait == 0:
		err = errors.New("timeout says how long wait waits: give wait as well")
	case q.wait > 0 && !q.asOf.IsZero():
		err = errors.New("what was then does not change: give wait or as_of, not both")
	}
	return q, err
}

func (q *asked) setWait(text string) (err error) {
	if q.wait, err = strconv.ParseInt(text, 10, 64); err != nil || q.wait < 1 || text[0] == '+' {
		return errors.New("wait: want a version, which is a whole number from 1")
	}
	return nil
}

func (q *asked) setTimeout(text string) (err error) {
	if q.timeout, err = time.ParseDuration(text); err != nil || q.timeout <= 0 || q.timeout > maxWait {
		return fmt.Errorf("timeout: want a time up to %v, such as 500ms or 5s", maxWait)
	}
	return nil
}

func (q *asked) setAsOf(text string) (err error) {
	// A plus sign in a query is a space. In a time there are none.
	if q.asOf, err = time.Parse(time.RFC3339Nano, strings.Replace(text, " ", "+", 1)); err != nil || q.asOf.Year() < 1900 {
		return errors.New("as_of: want a time such as 2026-01-02T15:04:05Z")
	}
	if q.asOf.After(time.Now().Add(clockSkew)) {
		return errors.New("as_of: that is in the future, and nobody knows what will have happened until then")
	}
	return nil
}
