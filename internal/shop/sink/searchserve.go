package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/evdemo/evdemo/internal/shop/problem"
)

// searchSocket is where a process that has an index open answers for it: nobody else can open the index.
const searchSocket = "search.sock"

// Serve answers FindOrders of other processes of the same user, until ctx ends.
func (s *Search) Serve(ctx context.Context) error {
	path := filepath.Join(s.dir, searchSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // of a process that was killed: we have the lock
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{Handler: http.HandlerFunc(s.answer), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = server.Shutdown(closing)
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (s *Search) answer(w http.ResponseWriter, r *http.Request) {
	limit, err := strconv.Atoi(r.FormValue("limit"))
	if err != nil {
		problem.Write(w, r, http.StatusBadRequest, "", "limit is no number", nil)
		return
	}
	found, err := s.Search(r.Context(), r.FormValue("q"), limit)
	switch {
	case errors.Is(err, ErrQuery):
		problem.Write(w, r, http.StatusUnprocessableEntity, "", err.Error(), nil)
	case err != nil:
		problem.Write(w, r, http.StatusInternalServerError, "", err.Error(), nil)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(found)
	}
}

// FindOrders is [Search.Search] in the index of a folder: through the process that has it open, or by opening it, if nobody has. It
// makes no index where there is none: then the error wraps os.ErrNotExist.
func FindOrders(ctx context.Context, dir, text string, limit int) (found Found, err error) {
	if _, err := os.Stat(dir); err != nil {
		return Found{}, err
	}
	found, err = askSearch(ctx, filepath.Join(dir, searchSocket), text, limit)
	nobody := errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENAMETOOLONG) // a path that is too long for a socket
	if !nobody {
		return found, err
	}
	s, err := OpenSearch(ctx, SearchConfig{Dir: dir})
	if err != nil {
		return Found{}, err
	}
	defer func() { err = errors.Join(err, s.Close(ctx)) }()
	return s.Search(ctx, text, limit)
}

func askSearch(ctx context.Context, socket, text string, limit int) (found Found, err error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	query := url.Values{"q": {text}, "limit": {strconv.Itoa(limit)}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://search/?"+query.Encode(), nil)
	if err != nil {
		return found, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return found, err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return found, json.NewDecoder(response.Body).Decode(&found)
	}
	var p struct{ Detail string }
	if err := json.NewDecoder(response.Body).Decode(&p); err != nil {
		return found, err
	}
	if response.StatusCode == http.StatusUnprocessableEntity {
		return found, fmt.Errorf("%w (%s)", ErrQuery, p.Detail)
	}
	return found, errors.New(p.Detail)
}
