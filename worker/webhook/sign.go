package webhook

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/evdemo/evdemo/event"
)

// secretPrefix marks a secret of Standard Webhooks.
const secretPrefix = "whsec_"

// The headers of Standard Webhooks, spelled as net/http does.
const (
	headerWebhookID        = "Webhook-Id"
	headerWebhookTimestamp = "Webhook-Timestamp"
	headerWebhookSignature = "Webhook-Signature"
)

// newSigner reads a secret; no error has it in it. Without one there is no signer.
func newSigner(secret string) (*standardwebhooks.Webhook, error) {
	secret = strings.TrimSpace(secret)
	if secret == "" {
		return nil, nil
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	if err != nil {
		return nil, errors.New("secret: is not base64, with or without " + secretPrefix + " before it")
	}
	if len(key) == 0 {
		return nil, errors.New("secret: is empty")
	}
	return standardwebhooks.NewWebhookRaw(key)
}

// sign sets the headers of Standard Webhooks for this moment.
func (p *Poster) sign(header http.Header, e event.Event, body []byte) error {
	id, now := webhookID(e), time.Now()
	signature, err := p.signer.Sign(id, now, body)
	if err != nil {
		return fmt.Errorf("sign event %s: %w", e.ID, err)
	}
	header[headerWebhookID] = []string{id}
	header[headerWebhookTimestamp] = []string{strconv.FormatInt(now.Unix(), 10)}
	header[headerWebhookSignature] = []string{signature}
	return nil
}

// webhookID is the same for every attempt at an event, and another for every other event. A receiver
// knows a duplicate by it alone, while two sources may use one id for different events. And it must
// have no full stop in it, which parts it from the time in what is signed.
func webhookID(e event.Event) string {
	sum := sha256.Sum256([]byte(e.Source + "\x00" + e.ID))
	return "msg_" + hex.EncodeToString(sum[:16])
}
