/** Explains a failure of TLS with RabbitMQ, by the codes of Node and OpenSSL. */

interface Explained {
  readonly reason: string;
  readonly advice: string;
}

/** Each with the remedy; the first that matches counts. An `ALERT` comes from the broker, the others are this side's. */
const TLS: readonly (readonly [pattern: RegExp, what: string, advice: string])[] = [
  [
    /ALERT_CERTIFICATE_REQUIRED|ALERT_HANDSHAKE_FAILURE/,
    'the broker asks for a client certificate',
    'set cert_file and key_file to one that the authorities of its ssl_options.cacertfile signed',
  ],
  [
    /ALERT_CERTIFICATE_(EXPIRED|REVOKED)/,
    'the broker takes cert_file for expired or revoked',
    "renew it: the file is read again at each try; or correct the clock of the broker's machine",
  ],
  [
    /ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_UNKNOWN|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED|DECRYPT_ERROR)/,
    'the broker refuses the certificate in cert_file',
    "use one that the authorities of its ssl_options.cacertfile signed; RabbitMQ's log says what it dislikes",
  ],
  [
    /PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|NO_SHARED_CIPHER|NO_PROTOCOLS/,
    'both sides have no version of TLS, or no cipher, in common',
    "let the broker's ssl_options.versions have TLS 1.2 or 1.3",
  ],
  [
    /CERT_HAS_EXPIRED|CERT_NOT_YET_VALID/,
    "the broker's certificate is not valid now",
    "check this machine's clock (timedatectl), then renew the broker's certificate",
  ],
  [
    /ALTNAME_INVALID/,
    "the broker's certificate is of another host",
    'use a name of that certificate in the url, or give the broker one with the name in the url',
  ],
  [
    /SELF_SIGNED|UNABLE_TO_(VERIFY|GET_ISSUER)|CERT_UNTRUSTED|INVALID_CA|CERT_SIGNATURE_FAILURE|CERT_CHAIN/,
    "no authority that is trusted here signed the broker's certificate",
    "set ca_file to the PEM file of the authority that signed it; the broker's ssl_options.cacertfile often is that file",
  ],
  [
    /WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|EPROTO/,
    'it does not speak TLS there',
    "correct the port (5671 is RabbitMQ's for TLS), or begin the url with amqp://",
  ],
  [/^(ERR_SSL|ERR_TLS|ERR_OSSL|CERT)_/, 'no TLS comes about', 'check ca_file, cert_file and key_file on both sides'],
];

/** Undefined for a failure that is none of TLS. */
export function explainTls(code: unknown, text: string): Explained | undefined {
  const found = TLS.find(([pattern]) => pattern.test(String(code)));
  return found && { reason: `${found[1]} (${text.trim()})`, advice: found[2] };
}
