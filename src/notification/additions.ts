/**
 * The additions to a notification from the configuration: attributes, body fields, subject and FIFO ids. Compiled to
 * functions once, at the start, so that an event pays only for what is configured.
 */
import type { XmppEvent } from '../event.ts';
import { FIELDS } from './fields.ts';
import { kindOf } from './kind.ts';
import { attributeProblem, type MessageAttribute } from './lint.ts';
import { compileTemplate, nearestField, numberProblem, readTemplate, type Template } from './template.ts';

/** A template for a String, or for a Number. */
export type AttributeTemplate = string | { readonly number: string };
type AttributeTemplates = Readonly<Record<string, AttributeTemplate>>;

/** Attributes that `attributes = […]` chooses among. */
export const BUILT_IN_ATTRIBUTES = ['event_id', 'timestamp', 'type', 'stanza_id', 'host', 'traceparent'] as const;
type BuiltInAttribute = (typeof BUILT_IN_ATTRIBUTES)[number];

/** The options for additions; names are those of the configuration. */
export interface AdditionOptions {
  readonly attributes: readonly BuiltInAttribute[];
  readonly message_attributes?: AttributeTemplates | undefined;
  readonly presence_attributes?: AttributeTemplates | undefined;
  readonly cloudevents?: boolean | undefined;
  readonly body_fields?: readonly string[] | undefined;
  readonly subject?: string | undefined;
  readonly message_group_id?: string | undefined;
  readonly message_deduplication_id?: string | undefined;
}

/** Functions that compute an event's additions; undefined if nothing is configured. */
export interface Additions {
  readonly attributes: ((event: XmppEvent) => MessageAttribute[]) | undefined;
  /** Members to append to the body, each preceded by a comma. */
  readonly members: ((event: XmppEvent) => string) | undefined;
  readonly subject: Template | undefined;
  readonly groupId: Template | undefined;
  readonly deduplicationId: Template | undefined;
}

export function compileAdditions(options: AdditionOptions): Additions {
  const {
    body_fields: fields = [],
    subject,
    message_group_id: group,
    message_deduplication_id: deduplication,
  } = options;
  const optional = (text: string | undefined) => (text === undefined ? undefined : compileTemplate(text));
  const subjectOf = optional(subject);
  return {
    attributes: compileAttributes(options),
    members: fields.length === 0 ? undefined : compileMembers(fields),
    subject: subjectOf && ((event) => toSubject(subjectOf(event))),
    groupId: optional(group),
    deduplicationId: optional(deduplication),
  };
}

type AttributeOf = readonly [name: string, type: 'String' | 'Number', value: Template];

function compileAttributes(options: AdditionOptions): Additions['attributes'] {
  const { attributes, cloudevents, message_attributes = {}, presence_attributes = {} } = options;
  const common = [...builtIn(attributes), ...(cloudevents ? CLOUD_EVENTS : [])];
  const presence = withOwn(common, presence_attributes);
  const message = withOwn(common, message_attributes);
  if (presence.length + message.length === 0) return undefined;
  return (event) => {
    const list: MessageAttribute[] = [];
    for (const [name, type, template] of event.kind === 'presence' ? presence : message) {
      const value = template(event);
      if (value !== undefined) list.push({ name, type, value });
    }
    return list;
  };
}

const builtIn = (names: readonly BuiltInAttribute[]): AttributeOf[] =>
  [...new Set(names)].map((name) => [name, FIELDS[name].type, compileTemplate(`{${name}}`)]);

/** Templates come after the built-in attributes, and replace those of the same name. */
function withOwn(common: readonly AttributeOf[], templates: AttributeTemplates): AttributeOf[] {
  const own = Object.entries(templates).map(([name, template]): AttributeOf => {
    if (typeof template === 'string') return [name, 'String', compileTemplate(template)];
    return [name, 'Number', compileTemplate(template.number)];
  });
  return [...common.filter(([name]) => !Object.hasOwn(templates, name)), ...own];
}

// https://github.com/cloudevents/spec has no released binding for SNS; its draft prefixes names with `ce_`.
const CLOUD_EVENTS: readonly AttributeOf[] = [
  ['ce_specversion', 'String', () => '1.0'],
  ['ce_id', 'String', compileTemplate('{event_id}')],
  ['ce_source', 'String', (event) => encodeURI(FIELDS.source.of(event) || event.host)],
  ['ce_type', 'String', (event) => `xmpp-event-pusher.${kindOf(event)}`],
  ['ce_time', 'String', compileTemplate('{time}')],
  ['ce_datacontenttype', 'String', () => 'application/json'],
];

function compileMembers(names: readonly string[]): (event: XmppEvent) => string {
  const members = names.map((name) => {
    const field = FIELDS[name as keyof typeof FIELDS];
    return { key: `,${JSON.stringify(name)}:`, isNumber: field.type === 'Number', of: field.of };
  });
  return (event) => {
    let text = '';
    for (const { key, isNumber, of } of members) {
      const value = of(event);
      if (value !== '') text += key + (isNumber ? value : JSON.stringify(value));
    }
    return text;
  };
}

/** SNS accepts up to 99 ASCII characters without line breaks, not starting with a space. */
const toSubject = (text: string | undefined): string | undefined =>
  text
    ?.trim()
    .replace(/[^ -~]/gu, '?')
    .slice(0, 99) || undefined;

/** With raw delivery to SQS, SNS drops messages with more attributes. */
export const MOST_RAW_ATTRIBUTES = 10;

/** The maximum number of attributes that the options can add to one notification, without a plugin's. */
export function mostAttributes(options: AdditionOptions): number {
  const { attributes, cloudevents, message_attributes = {}, presence_attributes = {} } = options;
  const common = [...builtIn(attributes), ...(cloudevents ? CLOUD_EVENTS : [])];
  return Math.max(withOwn(common, presence_attributes).length, withOwn(common, message_attributes).length);
}

/** The mistakes in the options, each with the option's name. */
export function additionProblems(section: Readonly<Record<string, unknown>>): { option: string; problem: string }[] {
  const found: { option: string; problem: string }[] = [];
  const report = (option: string, problem: string | undefined) => problem && found.push({ option, problem });
  for (const option of ['message_attributes', 'presence_attributes'])
    for (const [name, template] of Object.entries(section[option] ?? {}))
      report(`${option}.${name}`, attributeTemplateProblem(name, template));
  for (const option of ['subject', 'message_group_id', 'message_deduplication_id'])
    if (typeof section[option] === 'string') report(option, textProblem(section[option]));
  if (Array.isArray(section.body_fields))
    for (const name of section.body_fields) report('body_fields', memberProblem(name));
  return found;
}

function attributeTemplateProblem(name: string, template: unknown): string | undefined {
  const number =
    typeof template === 'object' && template !== null && 'number' in template ? template.number : undefined;
  const text = typeof template === 'string' ? template : number;
  if (typeof text !== 'string') return 'should be a text, or { number = "…" }';
  const problem = number === undefined ? textProblem(text) : numberProblem(text);
  if (problem) return problem;
  const wrong = attributeProblem({ name, type: 'String', value: text });
  return wrong && `is not allowed by SNS: ${wrong}`;
}

function textProblem(text: string): string | undefined {
  const read = readTemplate(text);
  return 'problem' in read ? read.problem : undefined;
}

/** Keys of the notification itself can't be replaced. */
function memberProblem(name: unknown): string | undefined {
  if (name === 'present') return 'names "present", which the JSON has already';
  if (typeof name !== 'string' || !Object.hasOwn(FIELDS, name))
    return `names ${JSON.stringify(name)}, which is not known; did you mean "${nearestField(String(name))}"?`;
  return undefined;
}
