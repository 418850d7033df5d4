import { startEjabberd } from '../support/ejabberd.ts';
import { churn } from './churn.ts';
import { scenarios } from './scenarios.ts';

scenarios('ejabberd', startEjabberd);
churn('ejabberd', startEjabberd);
