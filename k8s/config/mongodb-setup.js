// Makes a replica set of MEMBERS, and its users. Runs beside the mongod of every member, which may get ready later, and each
// time again: what is there stays, and a password or a role that was changed is changed in the database, too.
//
// While there are no users, MongoDB lets whoever comes from the same pod make the first one (the localhost exception).

const { readFileSync } = require("fs");

const set = "rs0";
const members = process.env.MEMBERS.split(",");
const isFirst = process.env.POD_NAME.endsWith("-0");
const database = process.env.DATABASE;
const password = (user) => readFileSync(`${process.env.PASSWORDS}/${user}`, "utf8").trim();

// As long as its startupProbe gives each mongod, in milliseconds.
const patience = 5 * 60 * 1000;

const UNAUTHORIZED = 13;

// What each user may do, and no more.
const contacts = { db: database, collection: "contacts" };
const roles = {
  storeContacts: [{ resource: contacts, actions: ["insert"] }],
  prepareContacts: [{ resource: contacts, actions: ["createCollection", "createIndex", "listIndexes"] }],
};
const users = { "contact-worker": "storeContacts", provision: "prepareContacts" };

function say(text) {
  print(`mongodb-setup: ${text}`);
}

// The database admin of the mongod beside this, which listens once it has read what it stores.
function reach() {
  const uri = "mongodb://127.0.0.1:27017/?directConnection=true";
  const deadline = Date.now() + patience;
  for (let waiting = false; ; waiting = true) {
    try {
      const mongod = new Mongo(uri);
      return mongod.getDB("admin");
    } catch (error) {
      if (Date.now() > deadline) throw new Error(`no mongod after five minutes: ${error.message}`);
      if (!waiting) say(`waiting for mongod: ${error.message}`);
      sleep(1000);
    }
  }
}

const here = reach();

function initiate() {
  const config = { _id: set, members: members.map((host, _id) => ({ _id, host })) };
  const answer = here.runCommand({ replSetInitiate: config });
  if (answer.ok) say(`replica set of ${members.join(", ")}`);
}

function signIn() {
  try {
    // mongosh waits for an answer only where it is used.
    const answer = here.auth("admin", password("admin"));
    return answer.ok === 1;
  } catch (error) {
    return false;
  }
}

// The primary may be another member.
function ensureUsers() {
  const signedIn = `admin:${encodeURIComponent(password("admin"))}`;
  const primary = new Mongo(`mongodb://${signedIn}@${members.join(",")}/?replicaSet=${set}`).getDB("admin");
  for (const [role, privileges] of Object.entries(roles)) {
    const change = { privileges, roles: [] };
    primary.getRole(role) ? primary.updateRole(role, change) : primary.createRole({ role, ...change });
  }
  for (const [user, role] of Object.entries(users)) {
    const change = { pwd: password(user), roles: [role] };
    primary.getUser(user) ? primary.updateUser(user, change) : primary.createUser({ user, ...change });
  }
  say(`users admin, ${Object.keys(users).join(", ")}`);
}

// One step towards the end; whether it is reached.
function step() {
  const hello = here.hello();
  if (!hello.setName) {
    if (isFirst) initiate();
    return false;
  }
  if (signIn()) {
    if (isFirst) ensureUsers();
    return true;
  }
  if (hello.isWritablePrimary) {
    // Refused once there is any user: then the Secret has another password of admin than the database.
    here.createUser({ user: "admin", pwd: password("admin"), roles: ["root"] });
  }
  return false;
}

// Ended then with an error, so that the pod's restarts show it.
const deadline = Date.now() + patience;
for (let reason = "no replica set"; ; ) {
  try {
    if (step()) break;
  } catch (error) {
    // All else may pass: other members start later than this one, have no name yet, or have no primary.
    if (error.code === UNAUTHORIZED) throw error;
    if (error.message !== reason) say(`waiting: ${error.message}`);
    reason = error.message;
  }
  if (Date.now() > deadline) throw new Error(`no user admin of this password after five minutes: ${reason}`);
  sleep(1000);
}
say("done");
