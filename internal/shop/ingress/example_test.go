package ingress_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/ingress"
)

// A webhook as Stripe sends it, and the same once more.
func Example() {
	dir, err := os.MkdirTemp("", "ingress")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx := context.Background()
	store, err := eventstore.Open(ctx, eventstore.Config{DB: filepath.Join(dir, "shop.db")})
	if err != nil {
		panic(err)
	}
	defer func() { _ = store.Close() }()

	const secret = "whsec_DaLRHCRs35vEXqOE8uTEAXGLGUOnyaFf"
	handler, err := ingress.New(ingress.Config{Store: store, Secrets: ingress.Secrets{Stripe: []string{secret}}})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle(ingress.Path, handler)

	body := []byte(`{"id":"evt_1","type":"charge.succeeded","created":1799999990}`)
	for range 2 {
		request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/webhooks/stripe", bytes.NewReader(body))
		if request.Header, err = ingress.SignStripe(secret, body, time.Now()); err != nil {
			panic(err)
		}
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, request)
		fmt.Print(answer.Code, " ", answer.Body)
	}
	// Output:
	// 200 {"status":"recorded","event_id":"stripe-evt_1","type":"charge.succeeded"}
	// 200 {"status":"duplicate","event_id":"stripe-evt_1","type":"charge.succeeded"}
}
