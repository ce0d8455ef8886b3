/** A step failed, and with it its stage. */
class Failure extends RuntimeException {

    Failure(String message) {
        super(message)
    }

}
