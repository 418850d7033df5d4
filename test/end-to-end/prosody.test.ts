import { startProsody } from '../support/prosody.ts';
import { churn } from './churn.ts';
import { scenarios } from './scenarios.ts';

scenarios('Prosody', startProsody);
churn('Prosody', startProsody);
