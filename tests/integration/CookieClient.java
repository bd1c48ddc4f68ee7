import java.net.CookieManager;
import java.net.HttpCookie;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** Asks for one address after the other with Java's own cookie jar, and prints each answer. */
public class CookieClient {
    /** The first argument is the version that cookies are sent back in: 0 as they came, 1 as RFC 2965 has it. */
    public static void main(String[] arguments) throws Exception {
        int version = Integer.parseInt(arguments[0]);
        CookieManager jar = new CookieManager();
        HttpClient client = HttpClient.newBuilder().cookieHandler(jar).version(HttpClient.Version.HTTP_1_1).build();
        for (int index = 1; index < arguments.length; index++) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[index])).build();
            System.out.println(client.send(request, BodyHandlers.ofString()).body());
            if (version == 1) {
                for (HttpCookie cookie : jar.getCookieStore().getCookies()) {
                    cookie.setVersion(1);
                }
            }
        }
    }
}
