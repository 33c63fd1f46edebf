// Elements with `data-live` and an id are refreshed: when something has changed, the page is fetched again, and their
// contents become those of the same elements there. Without script, a page stays as it was loaded.
'use strict';
{
    // Milliseconds.
    const LEAST = 2000; // between two fetches
    const REST = 4; // times as long as the last fetch took: at most a fifth of the time is spent in fetches
    const POLL = 12000; // between two questions whether something has changed
    const WHOLE = 300000; // the page is fetched after this, also if nothing has changed: it shows how late reports are
    const TIMEOUT = 30000; // of one fetch
    const LONGEST = 60000; // between two attempts while the server does not answer
    const STREAM = 60000; // before a stream that was refused is asked for again
    const STILL = 1000; // without a move of the pointer, before a list may move under it

    // Django's script for actions keeps the boxes and the table that it finds at first. It gets an array of ours, which
    // follows the list.
    const boxes = [];
    let djangos = window.Actions;
    let bound = null;
    const bind = () => {
        boxes.splice(0, boxes.length, ...document.querySelectorAll('tr input.action-select'));
        const table = document.getElementById('result_list');
        if (boxes.length && table !== bound) {
            bound = table;
            djangos(boxes);
        }
    };
    // Django's script may be loaded after this one.
    Object.defineProperty(window, 'Actions', {
        configurable: true,
        get: () => djangos && bind,
        set: (given) => {
            djangos = given;
        },
    });

    const isSelectedWhole = () => [...document.querySelectorAll('input.select-across')].some((one) => one.value === '1');

    // The counter of ticked boxes is Django's. It changes with a click; here the list has changed.
    const count = () => {
        const counter = document.querySelector('.actions .action-counter');
        if (!counter || !djangos) {
            return;
        }
        bind();
        const ticked = boxes.filter((box) => box.checked).length;
        boxes.forEach((box) => box.closest('tr').classList.toggle('selected', box.checked));
        counter.dataset.actionsIcnt = boxes.length;
        const text = window.ngettext('%(sel)s of %(cnt)s selected', '%(sel)s of %(cnt)s selected', ticked);
        counter.textContent = window.interpolate(text, {sel: ticked, cnt: boxes.length}, true);
        const toggle = document.getElementById('action-toggle');
        if (toggle) {
            toggle.checked = boxes.length > 0 && ticked === boxes.length;
            document.querySelectorAll('.actions .question').forEach((one) => {
                one.classList.toggle('hidden', !toggle.checked);
            });
        }
    };

    // What a node is, among its brothers: rows of a list move, and are still the same rows.
    const key = (node) => {
        if (node.nodeType !== Node.ELEMENT_NODE) {
            return null;
        }
        if (node.id || node.dataset.key) {
            return node.id || node.dataset.key;
        }
        if (node.localName !== 'tr') {
            return null;
        }
        const box = node.querySelector('input.action-select');
        const link = node.querySelector('th a[href], td a[href]');
        return box ? `box ${box.value}` : link && link.getAttribute('href');
    };

    // Make a node like another one. What is the same stays the same node, with its focus, its place and its state.
    const become = (old, fresh) => {
        if (old.nodeType !== Node.ELEMENT_NODE) {
            if (old.nodeValue !== fresh.nodeValue) {
                old.nodeValue = fresh.nodeValue;
            }
            return;
        }
        if (old.matches('input, select, textarea, .actions') || old.isEqualNode(fresh)) {
            return;
        }
        const own = old.localName === 'details' ? ['open'] : []; // what the person has opened stays open
        for (const {name, value} of fresh.attributes) {
            if (!own.includes(name) && old.getAttribute(name) !== value) {
                old.setAttribute(name, value);
            }
        }
        for (const {name} of [...old.attributes]) {
            if (!own.includes(name) && !fresh.hasAttribute(name)) {
                old.removeAttribute(name);
            }
        }
        becomeChildren(old, fresh);
    };

    const becomeChildren = (old, fresh) => {
        const wanted = new Set([...fresh.children].map(key));
        const known = new Map();
        for (const child of [...old.children]) {
            const own = key(child);
            if (own !== null && !wanted.has(own)) {
                child.remove();
            } else if (own !== null) {
                known.set(own, child);
            }
        }
        let place = old.firstChild;
        for (const next of [...fresh.childNodes]) {
            const own = key(next);
            let found = null;
            if (own !== null) {
                found = known.get(own) ?? null;
                while (found && place && place !== found && key(place) === null) {
                    const passed = place;
                    place = place.nextSibling;
                    passed.remove();
                }
            } else if (place && place.nodeName === next.nodeName && key(place) === null) {
                found = place;
            }
            if (found && found.nodeName === next.nodeName) {
                if (found === place) {
                    place = place.nextSibling;
                } else {
                    old.insertBefore(found, place);
                }
                become(found, next);
            } else {
                old.insertBefore(document.importNode(next, true), place);
            }
        }
        while (place) {
            const passed = place;
            place = place.nextSibling;
            passed.remove();
        }
    };

    const start = () => {
        const shown = document.getElementById('rq-live');
        if (!shown) {
            return;
        }
        const said = shown.querySelector('[role="status"]');
        const button = shown.querySelector('button');
        const moved = new WeakMap();
        const elements = [...document.querySelectorAll('[data-live][id]')];
        for (const element of elements) {
            element.addEventListener('pointermove', () => moved.set(element, performance.now()));
        }

        let marker = shown.dataset.marker;
        let loaded = performance.now();
        let wanted = false; // a fetch of the page
        let behind = false; // the page is known to have changed
        let wait = 0; // before the next question: the server is busy with other pages, or does not answer
        let notBefore = 0;
        let failures = 0;
        let paused = false;
        let stopped = false;
        let asking = null; // the AbortController of what is under way
        let stream = null;
        let timer = null;
        let streamTimer = null;
        let settleTimer = null;
        let waiting = new Map(); // elements that the person uses, and what they are to become

        const say = (state) => {
            const text = shown.dataset[`${state}Text`];
            if (said.textContent !== text) {
                said.textContent = text;
            }
        };
        const runs = () => !paused && !stopped && document.visibilityState === 'visible';

        const isUsed = (element) => {
            const active = document.activeElement;
            const choice = 'input:not([type="checkbox"], [type="radio"], [type="submit"], [type="button"]), select, textarea';
            const selected = document.getSelection();
            return (
                (element.contains(active) && active.matches(choice)) ||
                (selected.rangeCount > 0 && !selected.isCollapsed && selected.getRangeAt(0).intersectsNode(element)) ||
                performance.now() - (moved.get(element) ?? -STILL) < STILL ||
                (element.querySelector('#result_list') !== null && isSelectedWhole())
            );
        };

        const settle = () => {
            clearTimeout(settleTimer);
            const active = document.activeElement;
            for (const [element, fresh] of [...waiting]) {
                if (!isUsed(element)) {
                    waiting.delete(element);
                    becomeChildren(element, fresh);
                }
            }
            count();
            if (active !== document.activeElement && document.contains(active)) {
                active.focus({preventScroll: true});
            }
            if (waiting.size) {
                settleTimer = setTimeout(settle, STILL);
            }
        };

        const stop = (state) => {
            stopped = true;
            halt();
            say(state);
            button.hidden = true;
        };

        // The answer; null if the page has stopped because of it.
        const get = async (address) => {
            const headers = {'X-Requested-With': 'reportqueue-live'};
            const options = {headers, redirect: 'manual', credentials: 'same-origin', cache: 'no-store'};
            const answer = await fetch(address, {...options, signal: asking.signal});
            if (answer.type === 'opaqueredirect' || answer.status === 401 || answer.status === 403) {
                stop('refused');
                return null;
            }
            if (answer.status === 404) {
                stop('gone');
                return null;
            }
            if (!answer.ok) {
                throw new Error(`${answer.status}`);
            }
            return answer;
        };

        const fetchPage = async () => {
            wanted = false;
            behind = false;
            const answer = await get(window.location.href);
            const text = await answer?.text();
            if (text === undefined || !runs()) {
                return;
            }
            const fresh = new DOMParser().parseFromString(text, 'text/html');
            loaded = performance.now();
            for (const element of elements) {
                const next = fresh.getElementById(element.id);
                if (next) {
                    waiting.set(element, next);
                }
            }
            settle();
            const next = fresh.getElementById('rq-live');
            if (next) {
                marker = next.dataset.marker;
            } else {
                stop('ended');
            }
        };

        const look = async () => {
            if (!runs() || asking) {
                return;
            }
            asking = new AbortController();
            const own = asking;
            const tooLong = setTimeout(() => own.abort(), TIMEOUT);
            const began = performance.now();
            wait = 0;
            try {
                if (!wanted && began - loaded < WHOLE) {
                    const since = `since=${encodeURIComponent(marker)}${behind ? '&behind' : ''}`;
                    const answer = await get(`${shown.dataset.changed}?${since}`);
                    const told = await answer?.json();
                    wait = 1000 * (told?.wait ?? 0);
                    behind = behind || Boolean(told?.changed);
                    wanted = behind && !wait;
                } else {
                    wanted = true;
                }
                if (wanted && runs()) {
                    await fetchPage();
                }
                failures = 0;
                if (runs()) {
                    say('live');
                }
            } catch {
                if (asking === own && runs()) {
                    failures += 1;
                    wanted = true;
                    say('away');
                }
            }
            clearTimeout(tooLong);
            if (asking === own) {
                asking = null;
                const now = performance.now();
                notBefore = now + Math.max(LEAST, REST * (now - began));
                if (failures) {
                    wait = Math.min(LONGEST, LEAST * 2 ** failures);
                }
                plan(Math.max(wait, wanted || behind ? 0 : POLL));
            }
        };

        const plan = (delay) => {
            clearTimeout(timer);
            if (runs()) {
                timer = setTimeout(look, Math.max(delay, notBefore - performance.now(), 0));
            }
        };

        const listen = () => {
            clearTimeout(streamTimer);
            if (stream || !runs()) {
                return;
            }
            stream = new EventSource(shown.dataset.events);
            stream.addEventListener('changed', () => {
                behind = true;
                if (!asking && !failures && !wait) {
                    plan(0);
                }
            });
            stream.addEventListener('error', () => {
                // The browser opens a stream that has ended again. One that was refused it does not.
                if (stream?.readyState === EventSource.CLOSED) {
                    stream = null;
                    streamTimer = setTimeout(listen, STREAM);
                }
            });
        };

        const halt = () => {
            clearTimeout(timer);
            clearTimeout(streamTimer);
            stream?.close();
            stream = null;
            asking?.abort();
            asking = null;
        };

        const go = () => {
            if (runs()) {
                say('live');
                listen();
                if (!asking) {
                    plan(performance.now() - loaded < LEAST ? POLL : 0);
                }
            } else {
                halt();
            }
        };

        button.textContent = shown.dataset.pauseText;
        button.addEventListener('click', () => {
            paused = !paused;
            button.textContent = paused ? shown.dataset.resumeText : shown.dataset.pauseText;
            if (paused) {
                say('paused');
            }
            go();
        });
        document.addEventListener('visibilitychange', go);
        window.addEventListener('pagehide', halt);
        window.addEventListener('pageshow', go);
        shown.hidden = false;
        go();
    };

    if (document.readyState === 'loading') {
        document.addEventListener('DOMContentLoaded', start);
    } else {
        start();
    }
}
