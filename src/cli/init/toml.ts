/** The text of a configuration, for people to edit. */
import { commandTo } from '../../config/commands.ts';
import { tomlString } from '../../quote.ts';

/** A value in the file: for a secret, an environment variable. */
export type Value = string | number | boolean | readonly Value[] | Variable | Template;

interface Variable {
  readonly variable: string;
}

/** Text with variables such as `${NAME}`. */
interface Template {
  readonly template: string;
}

/** Options of a section, in the order of the file. */
export type Options = Readonly<Record<string, Value>>;

export interface Contents {
  /** The general `sns` section. */
  readonly sns: Options | undefined;
  /** Those of single virtual hosts; undefined: the host publishes nothing. */
  readonly hosts: readonly { readonly host: string; readonly sns: Options | undefined }[];
  /** Where MongooseIM's rabbit backend publishes, and its exchanges by their sections. */
  readonly rabbit?: { readonly url: Value; readonly exchanges: Readonly<Record<string, Options>> } | undefined;
  /** Addresses of the tap for adapters, and of the console. */
  readonly listen: { readonly tap: string; readonly admin: string };
  /** The outbox's path; undefined: beside the configuration. */
  readonly outbox: string | undefined;
}

export const TAP_SECRET = 'TAP_SECRET';
export const ADMIN_TOKEN = 'ADMIN_TOKEN';

/** The whole file. */
export function configText({ sns, hosts, rabbit, listen, outbox }: Contents): string {
  const sections = [
    ...(sns ? [section('[modules.mod_event_pusher.sns]', sns)] : []),
    section('[tap.http]', { listen: listen.tap, secret: { variable: TAP_SECRET } }),
    ...(rabbit ? rabbitSections(rabbit) : []),
    ...(outbox === undefined ? [] : [section('[outbox]', { path: outbox })]),
    section('[admin]', { listen: listen.admin, token: { variable: ADMIN_TOKEN } }),
    ...hosts.map((each) => hostText(each)),
  ];
  return `${HEAD}\n${sections.join('\n')}`;
}

const HEAD = `# Written by \`${commandTo(['init'])}\`. Secrets are in the file \`environment\` beside it. Options that are not here
# have their defaults: docs/configuration.md lists all of them.
`;

const rabbitSections = ({ url, exchanges }: NonNullable<Contents['rabbit']>): string[] => [
  section('[tap.rabbitmq]', { url }),
  ...Object.entries(exchanges).map(([name, options]) => section(`[tap.rabbitmq.${name}]`, options)),
];

function hostText({ host, sns }: Contents['hosts'][number]): string {
  const own = sns
    ? section('[host_config.modules.mod_event_pusher.sns]', sns)
    : '  # Nothing of this domain is published.\n  [host_config.modules]\n';
  return `[[host_config]]\n  host = ${tomlString(host)}\n${own}`;
}

const section = (title: string, options: Options): string =>
  `${title}\n${Object.entries(options)
    .map(([name, value]) => `  ${name} = ${text(value)}\n`)
    .join('')}`;

function text(value: Value): string {
  if (typeof value === 'string') return tomlString(value);
  if (typeof value !== 'object') return String(value).replace('Infinity', 'inf').replace('NaN', 'nan');
  if ('template' in value) return tomlString(value.template).replaceAll('$${', '${');
  if ('variable' in value) return `"\${${value.variable}}"`;
  return `[${value.map(text).join(', ')}]`;
}
