package synchronous

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/evdemo/evdemo/event"
)

// maxAnswer is how much a service may answer, in bytes.
const maxAnswer = 4 << 20

// caller is a service that is called over HTTP. Each call has its time.
func (s *services) caller(name, address string, timeout time.Duration) asker {
	client := &http.Client{
		Transport:     s.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, e event.Event) ([]event.Event, error) {
		limited, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		decided, err := post(limited, client, address, e)
		if err == nil {
			return decided, nil
		}
		failed, ok := errors.AsType[*CallError](err)
		if !ok {
			failed = &CallError{what: "cannot be reached", Err: err}
			if limited.Err() != nil {
				failed.Timeout, failed.what = ctx.Err() == nil, fmt.Sprintf("did not answer within %v", timeout)
			}
		}
		failed.Service = name
		return nil, failed
	}
}

// post makes a call.
func post(ctx context.Context, client *http.Client, address string, e event.Event) ([]event.Event, error) {
	header, body := e.EncodeHTTP()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header = header
	response, err := client.Do(request)
	if err != nil {
		if in, ok := errors.AsType[*url.Error](err); ok { // it would say where again
			err = in.Err
		}
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	return readAnswer(response, answer)
}

// readAnswer reads what a service has decided.
func readAnswer(response *http.Response, body []byte) ([]event.Event, error) {
	status := response.StatusCode
	if status != http.StatusOK {
		return nil, &CallError{
			Permanent: status >= 300 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout,
			what:      "answered " + http.StatusText(status), Err: fmt.Errorf("%d: %.300q", status, body),
		}
	}
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case err != nil || kind != event.ContentTypeBatch:
		err = fmt.Errorf("the content type is %.60q, not %s", response.Header.Get("Content-Type"), event.ContentTypeBatch)
	case len(body) > maxAnswer:
		err = fmt.Errorf("more than %d bytes", maxAnswer)
	default:
		var decided []event.Event
		if decided, err = event.ParseBatch(body); err == nil {
			for _, e := range decided {
				err = errors.Join(err, e.Validate())
			}
		}
		if err == nil {
			return decided, nil
		}
	}
	return nil, &CallError{what: notUnderstood, Err: err}
}

// notUnderstood is what a service has done whose answer is none.
const notUnderstood = "answered what is not understood"

// call asks a service until it answers, so often, and gives the one of its events that is of a type that was wanted.
func (o *orders) call(
	ctx context.Context, name string, e event.Event, attempts int, want ...string,
) (reply event.Event, made int, err error) {
	pauses := pauses(o.config.Pause, o.config.LongestPause)
	for made = 1; ; made++ {
		decided, err := o.services.ask[name](ctx, e)
		if err == nil {
			reply, err = pick(decided, want)
		}
		if err == nil {
			return reply, made, nil
		}
		failed, ok := errors.AsType[*CallError](err)
		if !ok {
			failed = &CallError{what: "has failed", Err: err}
		}
		failed.Service, failed.Attempts = name, made
		if failed.Permanent || made >= attempts || !wait(ctx, pauses.NextBackOff()) {
			return event.Event{}, made, failed
		}
	}
}

// pick gives the event that answers. There may be others with it.
func pick(decided []event.Event, want []string) (event.Event, error) {
	for _, e := range decided {
		if slices.Contains(want, e.Type) {
			return e, nil
		}
	}
	return event.Event{}, &CallError{what: notUnderstood, Err: fmt.Errorf("%d events, none of which is %q", len(decided), want)}
}

// pauses are those between attempts: spread, and each twice as long as the one before.
func pauses(first, longest time.Duration) *backoff.ExponentialBackOff {
	b := &backoff.ExponentialBackOff{InitialInterval: first, RandomizationFactor: 0.25, Multiplier: 2, MaxInterval: longest}
	b.Reset()
	return b
}

// wait waits, unless ctx ends before.
func wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
