package ingress

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The headers of Standard Webhooks, spelled as net/http does.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

// secretPrefix marks a secret, Stripe's and those of Standard Webhooks.
const secretPrefix = "whsec_"

// standardScheme is that of Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256, as base64, over id, time and
// body with full stops in between. The library signs and compares. What the headers may look like, which key is one and
// how old a signature may be is decided here: the library takes an empty key, the first of several headers, and knows no
// tolerance but 5 min by the system's clock.
type standardScheme struct {
	keys []*standardwebhooks.Webhook
}

func newStandardScheme(provider string, secrets []string) (scheme, error) {
	s, errs := standardScheme{}, []error(nil)
	for i, secret := range secrets {
		key, err := standardKey(secret)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s secret %d of %d: %w", provider, i+1, len(secrets), err))
		}
		s.keys = append(s.keys, key)
	}
	return s, errors.Join(errs...)
}

// standardKey reads a secret. No error has it in it.
func standardKey(secret string) (*standardwebhooks.Webhook, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(secret), secretPrefix))
	switch {
	case err != nil:
		return nil, errors.New("is not base64, with or without " + secretPrefix + " before it")
	case len(key) == 0:
		return nil, errors.New("is empty")
	case len(key) < minSecret:
		return nil, fmt.Errorf("has %d bytes: Standard Webhooks wants %d or more", len(key), minSecret)
	}
	return standardwebhooks.NewWebhookRaw(key)
}

func (standardScheme) String() string { return headerSignature }

// claim reads the headers.
func (standardScheme) claim(header http.Header) (claim, error) {
	var values [3]string
	for i, name := range []string{headerID, headerTimestamp, headerSignature} {
		var err error
		if values[i], err = single(header, name); err != nil {
			return claim{}, err
		}
	}
	return parseStandard(values[0], values[1], values[2])
}

// parseStandard reads the headers' values. Signatures of other versions than v1 do not count.
func parseStandard(id, timestamp, signatures string) (c claim, err error) {
	// A full stop would leave open where the id ends in what was signed.
	if !isName(id) || strings.Contains(id, ".") {
		return claim{}, fmt.Errorf("the header %s is not an id: it has up to %d letters, digits and signs without full stops",
			headerID, maxName)
	}
	c.id = id
	if c.at, err = parseTimestamp(timestamp); err != nil {
		return claim{}, err
	}
	for item := range strings.FieldsSeq(signatures) {
		if strings.HasPrefix(item, "v1,") {
			c.signatures = append(c.signatures, item)
		}
	}
	switch {
	case len(c.signatures) == 0:
		return claim{}, fmt.Errorf("%w: the header %s has none that begins with v1 and a comma", errNoSignature, headerSignature)
	case len(c.signatures) > maxSignatures:
		return claim{}, fmt.Errorf("the header %s has more than %d signatures", headerSignature, maxSignatures)
	}
	return c, nil
}

func (s standardScheme) verify(c claim, body []byte) bool {
	header := c.header()
	for _, key := range s.keys {
		if key.VerifyIgnoringTimestamp(body, header) == nil {
			return true
		}
	}
	return false
}

// header writes the claim as a sender does.
func (c claim) header() http.Header {
	return http.Header{
		headerID:        {c.id},
		headerTimestamp: {strconv.FormatInt(c.at.Unix(), 10)},
		headerSignature: {strings.Join(c.signatures, " ")},
	}
}

// SignStandard gives the headers with which the SMS gateway or the mail service would send a body at a time, under the id
// of a message: for tests, and to try things out. The error is about the id, or about the secret, which it does not show.
func SignStandard(secret, id string, body []byte, at time.Time) (http.Header, error) {
	key, err := standardKey(secret)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	signature, err := key.Sign(id, at, body)
	if err != nil {
		return nil, err
	}
	c, err := parseStandard(id, strconv.FormatInt(at.Unix(), 10), signature)
	if err != nil {
		return nil, err
	}
	return c.header(), nil
}
