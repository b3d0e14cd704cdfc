// Logs in as ada in headless Chromium: node chromium_login.mjs CHROMIUM URL. It fills the forms, clicks, and ends at the client's page.
import { chromium } from "playwright-core";

const [executablePath, url] = process.argv.slice(2);
const args = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"];
const browser = await chromium.launch({ executablePath, headless: true, args });
const page = await browser.newPage();
await page.goto(url);
await page.getByPlaceholder("Enter any login").fill("ada");
await page.getByPlaceholder("and password").fill("any");
await page.getByRole("button", { name: "Sign-in" }).click();
await page.getByRole("button", { name: "Continue" }).click();
await page.getByText("You may close this window.").waitFor();
await browser.close();
