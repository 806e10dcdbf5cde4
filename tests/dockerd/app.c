/* The whole content of the test image: answers every request with 200 and "ok" on the port that it is given.
 *
 *     app PORT [SECONDS]
 *     app probe FILE        ends with 0 if the file exists, else 1: for a HEALTHCHECK
 *
 * After SIGTERM it goes on answering for SECONDS, as an application does that drains, and ends. As process 1 of a
 * container it must handle the signal itself: the kernel's default action does not apply to it. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile sig_atomic_t seconds;

static void end(int number) {
    (void)number;
    _exit(0);
}

static void told(int number) {
    (void)number;
    if (seconds == 0)
        _exit(0);
    alarm((unsigned)seconds);
}

int main(int argc, char **argv) {
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    struct sigaction on_term = {.sa_handler = told, .sa_flags = SA_RESTART};
    struct sigaction on_alarm = {.sa_handler = end};
    char request[4096];
    int on = 1;

    if (argc < 2)
        return 2;
    if (argc == 3 && strcmp(argv[1], "probe") == 0)
        return access(argv[2], F_OK) == 0 ? 0 : 1;
    place.sin_port = htons((unsigned short)atoi(argv[1]));
    seconds = argc > 2 ? atoi(argv[2]) : 0;
    sigaction(SIGTERM, &on_term, NULL);
    sigaction(SIGALRM, &on_alarm, NULL);
    int door = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(door, (struct sockaddr *)&place, sizeof place) < 0 || listen(door, 64) < 0)
        return 1;
    for (;;) {
        int caller = accept(door, NULL, NULL);
        if (caller < 0)
            continue;
        if (read(caller, request, sizeof request) > 0)
            (void)!write(caller, answer, strlen(answer));
        close(caller);
    }
}
