/**
 * Explains a failure of RabbitMQ and its remedy: one function for the log, `/readyz`, the console and `check`.
 */
import { messageOf, PusherError } from '../errors.ts';
import { explainTls } from './explain-tls.ts';

export interface BrokerProblem {
  /** Its kind, for code that depends on it. */
  readonly kind:
    | 'network'
    | 'tls'
    | 'credentials'
    | 'vhost'
    | 'permission'
    | 'different'
    | 'missing'
    | 'locked'
    | 'newer'
    | 'other';
  readonly reason: string;
  readonly advice: string;
}

/** A failure with an explanation from the code that met it, better than the error's text. */
export class ExplainedError extends Error {
  readonly problem: BrokerProblem;

  constructor(problem: BrokerProblem, cause?: unknown) {
    super(problem.reason, { cause });
    this.problem = problem;
  }
}

/** amqplib's data on a channel or connection that the broker closed: the reply code, and the method that caused it. */
interface Closed {
  readonly code?: number | string;
  readonly classId?: number;
  readonly methodId?: number;
}

/**
 * The permission that a refused method needs (https://www.rabbitmq.com/docs/access-control#authorisation), by class and
 * method.
 */
const PERMISSIONS: Readonly<Record<string, string>> = {
  '40.10': 'configure',
  '40.20': 'configure',
  '50.10': 'configure',
  '50.40': 'configure',
  '50.20': 'write (and read of the exchange)',
  '50.50': 'write (and read of the exchange)',
  '50.30': 'read',
  '60.20': 'read',
  '60.70': 'read',
  '60.40': 'write',
};

const UNREACHABLE: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there: start RabbitMQ, or correct the host and port of the url',
  ENOTFOUND: 'the host name does not resolve: correct the url, or fix DNS',
  EAI_AGAIN: 'DNS does not answer: fix it',
  ETIMEDOUT: 'no answer: check for a firewall, or a host that is down',
  EHOSTUNREACH: 'no route to the host: check for a firewall, or a network that is down',
  ECONNRESET: 'the connection was closed, by a stopping node or by the network; retrying',
  EPIPE: 'the connection was closed, by a stopping node or by the network; retrying',
};

/** Explains any failure of a connection or channel. */
export function explain(error: unknown): BrokerProblem {
  if (error instanceof ExplainedError) return error.problem;
  if (error instanceof PusherError && error.cause instanceof ExplainedError) return error.cause.problem;
  const text = messageOf(error);
  const { code, classId, methodId } = error as Closed;
  const reply = typeof code === 'number' ? code : replyCodeOf(text);
  // The broker's text, without the library's words around it.
  const said = /(?:with message |by server: )"(?:[A-Z_]+ - )?(.*)"$/s.exec(text)?.[1] ?? text;
  const problem = (kind: BrokerProblem['kind'], reason: string, advice: string) => ({ kind, reason, advice });

  if (/mechanism EXTERNAL|EXTERNAL is not provided/.test(text))
    return problem(
      'credentials',
      said,
      'the url has no user, so cert_file logs in: RabbitMQ needs the plugin rabbitmq_auth_mechanism_ssl, EXTERNAL among auth_mechanisms, and a user named as ssl_cert_login_from says; or give the url a user',
    );
  if (/login was refused|ACCESS.REFUSED.*mechanism/i.test(text))
    return problem(
      'credentials',
      said,
      'correct user and password in the url; `rabbitmqctl list_users` shows the users',
    );
  // While it opens a vhost, amqplib hides the broker's reason. In RabbitMQ that step fails for these.
  if (/ConnectionOpenOk/.test(text))
    return problem(
      'vhost',
      'the vhost does not exist, the user may not use it, or it has reached its limit of connections',
      "correct the vhost, the path of the url; make it with `rabbitmqctl add_vhost`, or let the user in with `rabbitmqctl set_permissions`; RabbitMQ's log says which it is",
    );
  if (reply === 403) {
    const permission = /refused: (configure|write|read) access|^(configure|write|read) access/.exec(said);
    const named = permission?.[1] ?? permission?.[2] ?? PERMISSIONS[`${classId}.${methodId}`];
    return problem(
      'permission',
      named ? `${said} (it lacks the permission to ${named})` : said,
      'give the user that permission with `rabbitmqctl set_permissions`; docs/rabbitmq.md has the patterns',
    );
  }
  if (/acknowledgement on channel \d+ timed out/.test(said))
    return problem(
      'network',
      said,
      "nothing, unless it repeats: then RabbitMQ's consumer_timeout is below 20 minutes, or this machine was suspended",
    );
  if (reply === 406)
    return problem(
      'different',
      said,
      'it exists with different arguments, which RabbitMQ never changes: configure the same ones, or delete it when it is empty',
    );
  if (reply === 404) return problem('missing', said, 'it does not exist: the daemon declares it again');
  if (reply === 405) return problem('locked', said, 'another connection uses it exclusively');
  if (reply === 320)
    return problem('network', said, 'a node of the broker is stopping, or an operator closed the connection; retrying');
  if (typeof code === 'string' && UNREACHABLE[code]) return problem('network', text, UNREACHABLE[code]);
  if (/ETIMEDOUT/.test(text)) return problem('network', 'no answer', UNREACHABLE.ETIMEDOUT as string);
  const tls = explainTls(code, text);
  if (tls) return problem('tls', tls.reason, tls.advice);
  if (error instanceof PusherError && error.code === 'CONFIG_INVALID')
    return problem('tls', text, 'fix the file: it is read again at each attempt');
  if (/Heartbeat timeout|closed abruptly|Unexpected close|Connection closed|channel closed/i.test(text))
    return problem('network', text, 'the connection was lost: a node is down or hangs, or the network fails; retrying');
  if (/did not answer within/.test(text))
    return problem(
      'network',
      text,
      'more than half of the nodes must run (check with `rabbitmq-queues check_if_node_is_quorum_critical`); retrying',
    );
  return problem('other', said, "see RabbitMQ's log");
}

const replyCodeOf = (text: string): number | undefined => {
  const [, code] = /\b(\d{3}) \([A-Z-]+\)/.exec(text) ?? [];
  return code === undefined ? undefined : Number(code);
};
