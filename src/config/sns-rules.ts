/** Rules that span several options of an `sns` section. */
import { isTemplate, readTemplate } from '../notification/template.ts';

type Section = Readonly<Record<string, unknown>>;
type Problems = { option: string; problem: string }[];

/** Keys are required, unless AWS's provider chain provides them. */
export const keyProblems = ({ credentials, ...section }: Section): Problems =>
  ['access_key_id', 'secret_access_key'].flatMap((option) => {
    if (credentials === 'aws' && section[option] !== undefined)
      return { option, problem: 'has no effect with credentials = "aws": leave one of the two out' };
    if (credentials !== 'aws' && section[option] === undefined)
      return [{ option, problem: 'is required, unless credentials = "aws"' }];
    return [];
  });

const TOPICS = ['presence_updates_topic', 'pm_messages_topic', 'muc_messages_topic'];

/** A template may only choose a listed topic, so that no JID can invent one. */
export function topicProblems(section: Section): Problems {
  const templates = TOPICS.flatMap((option) => {
    const topic = section[option];
    return typeof topic === 'string' && isTemplate(topic) ? [{ option, topic }] : [];
  });
  const found = templates.flatMap(({ option, topic }) => {
    const problem = templateProblem(topic);
    return problem === undefined ? [] : [{ option, problem }];
  });
  if (templates.length > 0 && section.topics === undefined)
    found.push({ option: 'topics', problem: 'is required when a topic is a template' });
  if (templates.length === 0 && section.topics !== undefined)
    found.push({ option: 'topics', problem: 'has no effect: none of the three topics is a template' });
  return found;
}

function templateProblem(topic: string): string | undefined {
  const read = readTemplate(topic);
  if ('problem' in read) return read.problem;
  const texts = read.parts.filter((part) => typeof part === 'string').join('');
  if (/^[A-Za-z0-9_-]*(\.fifo)?$/.test(texts)) return undefined;
  return 'has other characters than ASCII letters, digits, hyphens and underscores around its names';
}
