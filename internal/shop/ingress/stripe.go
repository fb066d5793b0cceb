package ingress

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// headerStripe has the time and the signatures: t=1700000000,v1=5257a8...,v1=...
const headerStripe = "Stripe-Signature"

// minSecret is the least that a secret must have, in bytes: that of Standard Webhooks. Stripe's have more.
const minSecret = 24

// stripeScheme is Stripe's (https://docs.stripe.com/webhooks/signature): HMAC-SHA256, in hexadecimal digits, over the time,
// a full stop, and the body.
type stripeScheme struct{ keys [][]byte }

func newStripeScheme(secrets []string) (scheme, error) {
	s, errs := stripeScheme{}, []error(nil)
	for i, secret := range secrets {
		key, err := stripeKey(secret)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s secret %d of %d: %w", Stripe, i+1, len(secrets), err))
		}
		s.keys = append(s.keys, key)
	}
	return s, errors.Join(errs...)
}

// stripeKey gives the key that a secret is: the secret as it is shown, with its prefix. No error has it in it.
func stripeKey(secret string) ([]byte, error) {
	secret = strings.TrimSpace(secret)
	switch rest, found := strings.CutPrefix(secret, secretPrefix); {
	case secret == "":
		return nil, errors.New("is empty")
	case !found:
		return nil, errors.New("does not begin with " + secretPrefix + ": it must be an endpoint's signing secret, not an API key")
	case len(rest) < minSecret:
		return nil, fmt.Errorf("has %d characters after %s: some are missing, Stripe's have %d or more",
			len(rest), secretPrefix, minSecret)
	case !isName(secret):
		return nil, errors.New("has characters in it, or more of them, than a secret of Stripe's can have: copy it once more")
	}
	return []byte(secret), nil
}

func (stripeScheme) String() string { return headerStripe }

// claim reads the header. Signatures of other versions than v1 do not count: v0 is for Stripe's test events.
func (stripeScheme) claim(header http.Header) (claim, error) {
	value, err := single(header, headerStripe)
	if err != nil {
		return claim{}, err
	}
	return parseStripe(value)
}

// parseStripe reads the header's value.
func parseStripe(value string) (c claim, err error) {
	for item := range strings.SplitSeq(value, ",") {
		name, text, found := strings.Cut(strings.TrimSpace(item), "=")
		switch {
		case !found:
			return claim{}, errors.New("the header " + headerStripe + " is not a list of t= and v1=")
		case name == "v1":
			c.signatures = append(c.signatures, text)
		case name != "t":
		case !c.at.IsZero():
			return claim{}, errors.New("the header " + headerStripe + " has two times")
		default:
			if c.at, err = parseTimestamp(text); err != nil {
				return claim{}, err
			}
		}
	}
	switch {
	case c.at.IsZero():
		return claim{}, fmt.Errorf("%w: the header %s has no time, t=", errNoSignature, headerStripe)
	case len(c.signatures) == 0:
		return claim{}, fmt.Errorf("%w: the header %s has no signature of version 1, v1=", errNoSignature, headerStripe)
	case len(c.signatures) > maxSignatures:
		return claim{}, fmt.Errorf("the header %s has more than %d signatures", headerStripe, maxSignatures)
	}
	return c, nil
}

func (s stripeScheme) verify(c claim, body []byte) bool {
	for _, key := range s.keys {
		want := stripeMAC(key, c.at, body)
		for _, signature := range c.signatures {
			got, err := hex.DecodeString(signature)
			if err == nil && hmac.Equal(got, want) {
				return true
			}
		}
	}
	return false
}

func stripeMAC(key []byte, at time.Time, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(strconv.AppendInt(nil, at.Unix(), 10))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return mac.Sum(nil)
}

// SignStripe gives the header with which Stripe would send a body at a time: for tests, and to try things out. The error is
// about the secret, and does not show it.
func SignStripe(secret string, body []byte, at time.Time) (http.Header, error) {
	key, err := stripeKey(secret)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	value := "t=" + strconv.FormatInt(at.Unix(), 10) + ",v1=" + hex.EncodeToString(stripeMAC(key, at, body))
	return http.Header{headerStripe: {value}}, nil
}
