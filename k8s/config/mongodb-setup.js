// Makes a replica set of MEMBERS, and its users. Runs beside the mongod of every member, and each time again: what is there
// stays, and a password or a role that was changed is changed in the database, too.
//
// While there are no users, MongoDB lets whoever comes from the same pod make the first one (the localhost exception).

const { readFileSync } = require("fs");

const set = "rs0";
const members = process.env.MEMBERS.split(",");
const isFirst = process.env.POD_NAME.endsWith("-0");
const database = process.env.DATABASE;
const password = (user) => readFileSync(`${process.env.PASSWORDS}/${user}`, "utf8").trim();
const here = db.getSiblingDB("admin");

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

function initiate() {
  const config = { _id: set, members: members.map((host, _id) => ({ _id, host })) };
  const answer = here.runCommand({ replSetInitiate: config });
  say(answer.ok ? `replica set of ${members.join(", ")}` : `no replica set yet: ${answer.errmsg}`);
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
for (let tries = 0; !step(); tries++) {
  if (tries === 120) throw new Error("no replica set with a user admin of this password, after two minutes");
  sleep(1000);
}
say("done");
