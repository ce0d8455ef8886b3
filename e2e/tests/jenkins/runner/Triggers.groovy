/** `triggers`: what starts builds. Here somebody else does. */
class Triggers {

    void githubPush() {
        // Nothing else can be said of it.
    }

}
